"""Every arm of the injection study stands for the injection that its name says."""

import pytest

from lightning_modules.injection_study import arm_injection
from tl_nla.evaluation.results import INJECTION_ARMS


@pytest.mark.parametrize("arm", INJECTION_ARMS)
def test_arms_are_injections(arm):
    found = arm_injection(arm, 10.0)
    assert found.slots == (3 if arm.endswith("3_slots") else 1)
    assert arm.startswith(found.kind)
    assert (found.scale is not None) == (found.kind in ("constant", "affine"))


def test_factors_scale_the_norm():
    assert [arm_injection(f"constant_{factor}", 10.0).scale for factor in ("0.5", "4")] == [5.0, 40.0]
    assert arm_injection("affine/3_slots", 10.0).scale == 10.0
