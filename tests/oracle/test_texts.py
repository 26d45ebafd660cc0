import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.errors import InputError
from tl_nla.oracle.labels import STEPS
from tl_nla.oracle.texts import Label, component_words, label_text, list_words, parse_label, parse_words

words = st.lists(st.text(min_size=1, max_size=6), max_size=4, unique=True).map(tuple)


components = st.sampled_from(
    [None, "layer 0 head 12", "layer 3 mlp", "layer 1 attention", "layer 2 block", "from layer 0 to 3"]
)


@given(words, words, st.none() | words, st.none() | st.integers(0, len(STEPS) - 1), components)
def test_what_is_written_is_read_back(promoted, suppressed, sources, strength, component):
    label = Label(promoted, suppressed, sources, strength, component)
    text = label_text(label)
    assert parse_label(text) == label
    assert parse_label(text).rest == ()


@given(st.text())
def test_any_text_can_be_parsed(text):
    label = parse_label(text)
    assert label.strength is None or label.strength < len(STEPS)


@given(st.text(alphabet='ab, "\\none'), st.integers(0, 4))
def test_a_limit_keeps_the_first_words(text, limit):
    assert parse_words(text, limit) == parse_words(text)[:limit]


def test_the_template():
    label = Label(("red", "a, b"), ("tall",), ("Mira",), 4)
    assert label_text(label) == 'It promotes red "a, b"; suppresses tall; attended Mira; strength three'
    assert label_text(Label(promoted=())) == "It promotes none"
    assert parse_label("It promotes none; strength nothing") == Label(promoted=(), strength=0)
    assert parse_words('none, "none"') == ["none"]
    assert list_words(("none",)) == '"none"'


@pytest.mark.parametrize(
    ("site", "said"),
    [("blocks.1.attn.head.3", "layer 1 head 3"), ("blocks.0.mlp", "layer 0 mlp"),
     ("blocks.2.attn", "layer 2 attention"),
     ("blocks.2", "layer 2 block"), ("blocks.0.hook_resid_pre -> blocks.2.hook_resid_post", "from layer 0 to 2"),
     ("blocks.0.hook_resid_mid -> blocks.2.hook_resid_post", None)],
)  # fmt: skip
def test_components_are_named(site, said):
    assert component_words(site) == said
    label = Label(("red",), component=said)
    assert label_text(label) == f"{said or 'It'} promotes red"
    assert parse_label(label_text(label)) == label


def test_untidy_text():
    label = parse_label("It promotes red red; nonsense; promotes blue; strength enormous")
    assert label == Label(promoted=("red",))
    assert label.rest == ("nonsense", "promotes blue", "strength enormous")


def test_swapped():
    label = Label(("a",), ("b",), ("c",), 2)
    assert label.swapped() == Label(("b",), ("a",), ("c",), 2)
    assert label.swapped().swapped() == label


def test_refusals():
    with pytest.raises(InputError, match="tells nothing"):
        label_text(Label())
    with pytest.raises(InputError, match="0 to 7"):
        Label(strength=8)
