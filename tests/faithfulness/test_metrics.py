import pytest
import torch

from tests.faithfulness.helpers import bag, explained
from tl_nla.faithfulness import ClaimCalibration, ClaimPrecision, CrossReconstructorGap, FVERetention
from tl_nla.faithfulness.claims import by_type, precision_by, score_claims
from tl_nla.faithfulness.scoring import Scorer, training_mean
from tl_nla.metrics import fve

TEXTS, TRUTHS, _, _ = explained(12)
MIXED = TEXTS[6:] + TEXTS[:6]


def test_precision_equals_the_functions():
    metric = ClaimPrecision()
    metric.update(MIXED[:5], TRUTHS[:5])
    metric.update(MIXED[5:], TRUTHS[5:])
    expected = precision_by(score_claims(MIXED, TRUTHS), by_type)
    assert metric.compute() == {f"claim_precision/{kind}": pytest.approx(rate.value) for kind, rate in expected.items()}
    assert 0 < metric.overall() < 1


def test_calibration_by_certainty():
    metric = ClaimCalibration()
    metric.update(TEXTS, TRUTHS)
    assert metric.compute() == {"right/surely": 1, "right/likely": 1}


def test_retention_and_gap_over_batches():
    acts = bag(TEXTS)
    mean = training_mean(acts)
    cut = bag([text[:50] for text in TEXTS])
    retention, gap = FVERetention(mean), CrossReconstructorGap(mean)
    for rows in torch.arange(12).split(5):
        retention.update(acts[rows], cut[rows], acts[rows])
        gap.update(acts[rows], cut[rows], acts[rows])
    expected = float(fve(cut, acts, mean))
    assert float(retention.compute()) == pytest.approx(expected)
    assert float(gap.compute()) == pytest.approx(1 - expected)
    assert Scorer(bag, acts, mean).fve([text[:50] for text in TEXTS]) == pytest.approx(expected)
