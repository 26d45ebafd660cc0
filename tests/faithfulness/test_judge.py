import math

import pytest

from tests.faithfulness.helpers import explained
from tl_nla.errors import InputError
from tl_nla.faithfulness.judge import agreement, judge_explanations, judge_quotes
from tl_nla.storyworld.judges import judge_world


def test_quotes_must_stand_in_the_text():
    assert judge_quotes('It says "red" and " Tom".', "Tom was red") is True
    assert judge_quotes('It says "red" and "blue".', "Tom was red") is False
    assert judge_quotes("It says nothing.", "Tom was red") is None


def test_the_world_judge_agrees_with_the_truth():
    texts, _, _, read = explained()
    verdicts = [claim.verdict for claim in judge_explanations(texts, read, judge_world)]
    assert False not in verdicts
    assert verdicts.count(None) == len(texts)  # the clause about the next word
    swapped = judge_explanations(texts, read[1:] + read[:1], judge_world)
    assert sum(claim.verdict is False for claim in swapped) > len(texts)


def test_agreement_is_above_chance_only_when_it_is():
    same = agreement([True, False, None, True], [True, False, True, None])
    assert (same.n, same.rate, same.kappa, same.undecided) == (2, 1.0, 1.0, 2)
    chance = agreement([True, True, False, False], [True, False, True, False])
    assert (chance.rate, chance.kappa) == (0.5, 0.0)
    assert math.isnan(agreement([True], [True]).kappa)
    assert agreement([None], [True]).n == 0


def test_lengths_must_agree():
    with pytest.raises(InputError, match="1 explanations for 0 texts"):
        judge_explanations(["a."], [], judge_quotes)
    with pytest.raises(InputError, match="same claims"):
        agreement([True], [])
