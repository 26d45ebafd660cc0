"""Arms enter as their names say, and a training lowers the loss of what was trained."""

import pytest
import torch

from docs.studies.smollm2_injection.train import ARMS, TRAINED, config_of


def test_norms():
    acts = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) * 50
    from tl_nla.nla import Injection

    def norm(arm):
        return Injection(config_of(ARMS[arm], 3.2), 4)(acts).norm(dim=-1)

    torch.testing.assert_close(norm("constant_1"), torch.full((3, 1), 3.2))
    torch.testing.assert_close(norm("constant_3"), torch.full((3, 1), 9.6))
    torch.testing.assert_close(norm("norm_150"), torch.full((3, 1), 150.0))
    torch.testing.assert_close(norm("sqrt_d/8_slots"), torch.full((3, 8), 2.0))
    torch.testing.assert_close(norm("raw")[:, 0], acts.norm(dim=1))


@pytest.mark.parametrize("arm", TRAINED)
def test_every_trained_arm_is_an_arm(arm):
    assert config_of(ARMS[arm], 1.0).slots == ARMS[arm].slots
