import math

import pytest
import torch

from tl_nla.metrics.ranks import area_under_curve, spearman


def test_statistics_against_slow_ones():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 5, (40,), generator=generator).double()
    positive = torch.randint(0, 2, (40,), generator=generator).double()
    pairs = [(float(a > b) + 0.5 * float(a == b)) for a in scores[positive == 1] for b in scores[positive == 0]]
    assert area_under_curve(scores, positive) == pytest.approx(sum(pairs) / len(pairs))
    ranks = torch.tensor([float((scores < s).sum() + (scores <= s).sum() + 1) / 2 for s in scores])
    other = torch.arange(40.0).double()
    expected = float(torch.corrcoef(torch.stack([ranks, other.float()]))[0, 1])
    assert spearman(scores, other) == pytest.approx(expected, abs=1e-5)
    assert area_under_curve(scores, torch.ones(40)) != area_under_curve(scores, torch.ones(40))


def test_huge_and_negative_scores_keep_their_order():
    scores = torch.tensor([-1e9, 5.0, 1e9, 2e9], dtype=torch.float64)
    assert area_under_curve(scores, torch.tensor([0.0, 1, 0, 1])) == 0.75
    assert math.isnan(spearman(scores, torch.ones(4).double()))
