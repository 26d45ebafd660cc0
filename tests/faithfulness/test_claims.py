import pytest
import torch

from tests.faithfulness.helpers import explained
from tl_nla.errors import InputError
from tl_nla.faithfulness.claims import (
    by_distance,
    by_type,
    distance_bucket,
    precision_by,
    recall_by,
    score_claims,
    score_guesses,
)
from tl_nla.storyworld.claims import Truth
from tl_nla.storyworld.facts import Facts
from tl_nla.storyworld.parser import parse

STORY = "Tom was at the park. Tom felt sad. A dog ran by. Tom had a ball painted red."


def truth():
    return Truth(parse(STORY).facts[-1], " painted red.", (" Tom",))


def test_verdicts_and_distances():
    parsed = parse(STORY)
    last = len(parsed.words) - 1
    text = "This is about Tom. Tom is at the farm. Tom feels sad. Lily has the ball. The cup is red."
    claims = score_claims([text], [truth()], torch.tensor([last + 1]))
    found = {claim.claim.type: (claim.verdict, claim.distance) for claim in claims}
    assert found == {
        "who": ("true", None),
        "where": ("false", last - parsed.words.index("park")),
        "feeling": ("true", last - parsed.words.index("sad")),
        "what": ("false", last - parsed.words.index("ball")),
        "colour": ("untold", None),
    }


def test_gold_text_is_all_true_and_recalled():
    texts, truths, positions, _ = explained()
    claims = score_claims(texts, truths, positions)
    assert {rate.value for rate in precision_by(claims, by_type).values()} == {1.0}
    assert {rate.value for rate in recall_by(texts, claims, by_distance).values()} == {1.0}


def test_recall_falls_with_what_is_left_out():
    texts, truths, positions, _ = explained()
    gold = score_claims(texts, truths, positions)
    silent = recall_by([text.split(" This is about")[0] for text in texts], gold, by_type)
    assert silent["who"].value == 0
    assert silent["next"].value == 1


def test_rates_keep_the_rows():
    texts, truths, _, _ = explained(3)
    rate = precision_by(score_claims(texts, truths), by_type)["who"]
    assert rate.rows == [0, 1, 2]
    assert rate.correct == [True] * 3


def test_buckets_are_complete():
    assert [distance_bucket(d) for d in (0, 4, 5, 39, 80, 1000)] == ["0-4", "0-4", "5-9", "20-39", "80+", "80+"]


def test_guesses():
    said = ['Next: surely " Tom".', 'Next: perhaps " a" or " Tom".', "This is about Tom."]
    gold = ['Next: likely " Tom".'] * 3
    guesses = score_guesses(said, gold, [truth()] * 3)
    assert [(g.row, g.certainty, g.right, g.deserved) for g in guesses] == [
        (0, "surely", True, "likely"),
        (1, "perhaps", False, "likely"),
    ]


def test_lengths_must_agree():
    with pytest.raises(InputError, match="differ in length"):
        score_claims(["a"], [])


def test_a_question_of_the_story_is_recalled():
    facts = Facts(person="Tom")
    text = 'Recent words: ". Where is Tom". Next: surely "?".'
    truth = Truth(facts, ". Where is Tom", ("?",))
    gold = score_claims([text], [truth])
    assert "Where" in {claim.claim.value for claim in gold}
    assert recall_by([text], gold, lambda claim: "")[""].value == 1
