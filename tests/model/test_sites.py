"""Sites: text and back, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.model.sites import Site

layers = st.integers(0, 200)
states = st.one_of(
    st.sampled_from(["hook_embed", "ln_final.hook_normalized"]),
    st.builds("blocks.{}.hook_resid_{}".format, layers, st.sampled_from(["pre", "mid", "post"])),
)
writes = st.one_of(
    st.builds("blocks.{}{}".format, layers, st.sampled_from(["", ".attn", ".mlp"])),
    st.builds("blocks.{}.attn.head.{}".format, layers, layers),
)


@given(st.one_of(states, writes))
def test_text_and_back(text):
    site = Site.parse(text)
    assert str(site) == text
    assert Site.parse(site) is site
    assert Site.parse(f"  {text} ") == site
    assert hash(Site.parse(text)) == hash(site)


@given(states, states)
def test_spans_run_forwards_only(first, second):
    ends = Site.parse(first), Site.parse(second)
    text = f"{first} -> {second}"
    if ends[0].order < ends[1].order:
        site = Site.parse(text)
        assert str(site) == text
        assert site.is_write
        assert (site.start, site.end) == ends
        assert site.last_layer == ends[1].last_layer
    else:
        with pytest.raises(InputError, match="earlier state first"):
            Site.parse(text)


@pytest.mark.parametrize(
    ("text", "kind", "layer", "head", "last"),
    [
        ("hook_embed", "state", None, None, 0),
        ("blocks.3.hook_resid_mid", "state", 3, None, 3),
        ("ln_final.hook_normalized", "state", None, None, None),
        ("blocks.2", "block", 2, None, 2),
        ("blocks.2.attn", "attn", 2, None, 2),
        ("blocks.2.mlp", "mlp", 2, None, 2),
        ("blocks.2.attn.head.11", "head", 2, 11, 2),
    ],
)
def test_what_a_site_is(text, kind, layer, head, last):
    site = Site.parse(text)
    assert (site.kind, site.layer, site.head, site.last_layer) == (kind, layer, head, last)
    assert site.is_write == (kind != "state")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blocks.1.hook_resid_pots", "nearest: blocks.0.hook_resid_post"),
        ("blocks.-1", "nearest"),
        ("blocks.1.attn.head", "nearest"),
        ("blocks.1.attn.head.x", "nearest"),
        ("", "allowed"),
        ("something else", "allowed|nearest"),
        ("blocks.0 -> blocks.1", "two states"),
        ("hook_embed -> blocks.0.hook_resid_pre -> blocks.1.hook_resid_pre", "two states"),
        ("blocks.0.hook_resid_post -> blocks.1.hook_resid_pre", "empty or runs backwards"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        Site.parse(text)


def test_what_the_model_lacks_is_refused(model, get_model):
    for text in ("blocks.3", "blocks.3.hook_resid_post", "blocks.0.hook_resid_pre -> blocks.7.hook_resid_pre"):
        with pytest.raises(InputError, match="out of range; the model has layers 0 to 2"):
            Site.parse(text).validate(model)
    with pytest.raises(InputError, match="heads 0 to 3"):
        Site.parse("blocks.0.attn.head.4").validate(model)
    site = Site.parse(f"blocks.{zoo.N_LAYERS - 1}.attn.head.{zoo.N_HEADS - 1}")
    assert site.validate(model) is site
    with pytest.raises(InputError, match="run in parallel"):
        Site.parse("blocks.0.hook_resid_mid").validate(get_model("bridge", "neox"))
