import pytest

from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from tl_nla.errors import InputError


def test_rates_rise_and_fall_and_differ():
    rates = RateConfig(4e-3, 1e-3, warmup_steps=4, decay_steps=10)
    assert rates.at(0) == [1e-3, 0.25e-3]
    assert rates.at(10) == pytest.approx([4e-4, 1e-4])


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (6, 1.0), (8, 0.55), (10, 0.1), (99, 0.1)])
def test_rates_are_constant_until_they_begin_to_fall(step, factor):
    assert RateConfig(1e-3, 2e-3, decay_from=6, decay_steps=10).at(step) == pytest.approx(
        [factor * 1e-3, factor * 2e-3]
    )


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (RateConfig, {"gradient_clip": 0.0}, "gradient_clip is 0.0"),
        (RateConfig, {"warmup_steps": -1}, "warmup_steps is -1"),
        (RateConfig, {"decay_from": 10, "decay_steps": 10}, "decay_from is 10"),
        (PolicyConfig, {"kl_weight": -0.1}, "kl_weight is -0.1"),
        (PolicyConfig, {"updates": 2, "accumulate": 2}, "one of them must be 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, settings, says):
    with pytest.raises(InputError, match=says):
        kind(**settings)
