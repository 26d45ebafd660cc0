"""Claims of short explanations: what is claimed, and what is true."""

import pytest
import torch

from tl_nla.explainers.base import Moment
from tl_nla.faithfulness.claims import score_claims
from tl_nla.faithfulness.grammar import Claim, grammar_for
from tl_nla.faithfulness.short_claims import SHORT_GRAMMAR, CheckedShortExplainer, ShortTruth, check_short, short_claims

TRUTH = ShortTruth(("bed", "home"), ("she", "went", "back", "to", "her", "old"))


def verdicts(text, truth=TRUTH):
    return [(claim.subject, claim.value, check_short(claim, truth)) for claim in short_claims(text)]


def test_recent_words_are_checked_at_their_places():
    assert verdicts("Next: bed, dog. Recent: he went to her old") == [
        ("1", "old", "true"), ("2", "her", "true"), ("3", "to", "true"), ("4", "went", "false"), ("5", "he", "false"),
        ("", "bed", "true"), ("", "dog", "false"),
    ]  # fmt: skip


def test_before_a_mark_only_being_there_is_claimed():
    assert verdicts("Next: …. Recent: she … her …") == [("", "her", "true"), ("", "she", "true")]
    assert verdicts("Next: …, home. Recent: he … old") == [
        ("1", "old", "true"), ("", "he", "false"), ("", "home", "true"),
    ]  # fmt: skip


def test_what_stands_before_the_text_is_untold():
    assert verdicts("Next: bed. Recent: the old", ShortTruth((), ("old",)))[1] == ("2", "the", "untold")


@pytest.mark.parametrize("text", ["", "Hello there.", "Next: bed", "Recent: a. Recent: b"])
def test_another_form_claims_nothing(text):
    assert short_claims(text) == []


def test_the_explainer_bears_out_its_own_explanations():
    moment = Moment("She went | back,\nto her old", "old", [(" bed", 0.5), ("home", 0.2), (" x", 0.1)], torch.zeros(2))
    ((text, truth),) = CheckedShortExplainer()("", [moment])
    with grammar_for(SHORT_GRAMMAR):
        scored = score_claims([text], [truth])
    assert len(scored) == 9
    assert all(one.true for one in scored)
    assert check_short(Claim("next", "", "x"), truth) == "false"
