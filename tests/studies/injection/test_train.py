"""Every arm of the injection study stands for the injection that its name says."""

import pytest
import torch

from docs.studies.injection.train import arm_injection, score_arm
from lightning_modules.training.nla_training import load_pair
from tl_nla.benchmark.results import INJECTION_ARMS
from tl_nla.metrics import squared_errors


@pytest.mark.parametrize("arm", INJECTION_ARMS)
def test_arms_are_injections(arm):
    found = arm_injection(arm, 10.0)
    assert found.slots == (3 if arm.endswith("3_slots") else 1)
    assert arm.startswith(found.kind)
    assert (found.scale is not None) == (found.kind in ("constant", "affine"))


def test_factors_scale_the_norm():
    assert [arm_injection(f"constant_{factor}", 10.0).scale for factor in ("0.5", "4")] == [5.0, 40.0]
    assert arm_injection("affine/3_slots", 10.0).scale == 10.0


def test_scores_are_sums_and_rates_over_stories():
    nla, acts = load_pair("tiny"), torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    errors, rates = score_arm(nla, acts, torch.tensor([4, 4, 9]))
    found = nla.generate(acts, max_new_tokens=110)
    each = squared_errors(nla.reconstruct(found.texts), acts, ~found.extracted)
    torch.testing.assert_close(errors, torch.stack([each[:2].sum(), each[2]]).float(), rtol=1e-4, atol=0)
    assert rates.tolist() == [float(found.extracted[:2].float().mean()), float(found.extracted[2])]
