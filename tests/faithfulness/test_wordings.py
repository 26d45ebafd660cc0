import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.studies.tiny.tokenizer import build_tokenizer
from tests.faithfulness.helpers import explained
from tl_nla.faithfulness.clauses import split_clauses
from tl_nla.faithfulness.wordings import canonical, read_form, reword
from tl_nla.storyworld.claims import parse_claims
from tl_nla.storyworld.wordings import FORMS

TEXTS = explained(20)[0]


@given(st.sampled_from(TEXTS), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_any_wording_comes_back(text, numbers):
    clauses = split_clauses(text)
    other = " ".join(reword(clause, number) for clause, number in zip(clauses, numbers, strict=False))
    assert canonical(other) == text
    assert set(parse_claims(canonical(other))) == set(parse_claims(text))


@pytest.mark.parametrize("kind", FORMS)
def test_forms_are_told_apart(kind):
    for number, form in enumerate(FORMS[kind]):
        values = {"recent": " red. Tom", "next": 'surely " the"'}.get(kind, "Tom")
        clause = form.replace("{a}", values).replace("{b}", "park")
        assert read_form(clause)[:2] == (kind, number)


def test_wordings_use_words_the_embedded_models_know():
    tokenizer = build_tokenizer()
    for forms in FORMS.values():
        for form in forms:
            text = " " + form.replace("{a}", "Tom").replace("{b}", "park")
            pieces = [tokenizer.decode([i]) for i in tokenizer.encode(text, add_special_tokens=False)]
            assert not [piece for piece in pieces if len(piece) == 1 and piece.isalpha()], (form, pieces)


def test_other_clauses_are_left():
    assert reword("It rained cats.", 2) == "It rained cats."
