"""Claims are read by the grammar in use, and by none where none is."""

import pytest

from tl_nla.errors import InputError
from tl_nla.faithfulness import paraphrase, split_clauses
from tl_nla.faithfulness.grammar import (
    NO_GRAMMAR,
    Claim,
    ClaimGrammar,
    check,
    grammar,
    grammar_for,
    made_claims,
    parse_claims,
)
from tl_nla.faithfulness.wordings import canonical
from tl_nla.storyworld.grammar import GRAMMAR

TEXT = "Tom is at the farm. The kite is red."


def test_without_a_grammar_a_text_makes_no_claims():
    with grammar_for(NO_GRAMMAR):
        assert parse_claims(TEXT) == made_claims(TEXT) == []
        assert [clause.kind for clause in split_clauses(TEXT)] == ["other", "other"]
        assert canonical(TEXT) == TEXT
        with pytest.raises(InputError, match="no grammar of claims is in use"):
            check(Claim("where", "Tom", "farm"), None)
    assert [clause.kind for clause in split_clauses(TEXT)] == ["where", "colour"]


def test_any_grammar_can_be_used():
    own = ClaimGrammar(
        ("shout",), lambda text: [Claim("shout", "", text)] if text.isupper() else [], lambda text, truth: [],
        lambda claim, truth: "true", lambda claim, truth: None, forms={"shout": ("{a}!", "HEY {a}!")},
    )  # fmt: skip
    with grammar_for(own):
        assert [clause.kind for clause in split_clauses("FIRE! Really.")] == ["shout", "other"]
        assert paraphrase("FIRE!", order=False) == "HEY FIRE!"
    assert grammar() is GRAMMAR
