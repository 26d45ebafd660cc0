"""Claims of an explanation with the certainty of each, and texts that are edited in the same place."""

import pytest

from docs.studies.smollm2_faithfulness.causal import _replaced
from docs.studies.smollm2_faithfulness.certainty import word_claims

SPOKEN = [("Next:", 1.0), ("home,", 0.6), ("bed.", 0.5), ("Recent:", 1.0), ("to", 0.2), ("her", 0.4), ("old", 0.9)]


def test_claims_have_their_certainty_and_their_truth():
    found = {word.place: word for word in word_claims(SPOKEN, "Next: home. Recent: of his her old")}
    assert [found[place].kind for place in range(4)] == ["next", "last 1", "last 2", "earlier"]
    assert [found[place].right for place in range(4)] == [True, True, True, False]
    assert [found[place].chance for place in range(4)] == [0.6, 0.9, 0.4, 0.2]
    assert found[0].word == "home"


def test_a_single_next_word_ends_in_a_point():
    assert word_claims([SPOKEN[0], ("bed.", 0.5), *SPOKEN[3:]], "Next: bed. Recent: old")[0].right


@pytest.mark.parametrize("spoken", [[], [("words", 1.0)], SPOKEN[:3], SPOKEN[3:]])
def test_what_has_another_form_claims_nothing(spoken):
    assert word_claims(spoken, "Next: home. Recent: old") == []


def test_a_text_is_edited_in_place():
    assert _replaced("one  two\nthree", 1, "x") == "one  two\nx"
    assert _replaced("one  two\nthree", 2, "x") == "one  x\nthree"
