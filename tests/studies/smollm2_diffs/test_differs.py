"""Words that came in and went, by hand."""

import torch

from docs.studies.smollm2_diffs.differs import oracle_words, text_difference, whole_text
from docs.studies.smollm2_diffs.score import _first_place, _groups

EARLIER, LATER = "Next: a, the. Recent: on the old bank", "Next: river. Recent: on the old bank"


def test_a_text_difference():
    found = text_difference(EARLIER, LATER)
    assert found.more == ("river",)
    assert found.less == ("a",)
    assert found.amount == 2
    assert text_difference(LATER, LATER) == whole_text("")


def test_words_of_an_oracle_are_put_together():
    texts = ["layer 3 block promotes file audio; suppresses science; strength five; deviation two",
             "layer 4 block promotes moving; suppresses fall separate; strength one; deviation two"]  # fmt: skip
    found = oracle_words(texts)
    assert found.more == ("file", "audio", "moving")
    assert found.less == ("science", "fall", "separate")
    assert found.amount == 6 + 2


def test_candidates_that_tie_share_the_first_place():
    assert _first_place(torch.tensor([0.5, 0.5, 0.1]), 0) == 0.5
    assert _first_place(torch.tensor([0.5, 0.4]), 1) == 0.0
    assert _first_place(torch.zeros(10), 3) == 0.1


def test_candidates_are_of_one_document():
    assert _groups([0, 1, 0, 2, 1]) == [[0, 2], [1, 4]]
