import pytest
import torch

from lightning_modules.schedules import OPTIMIZERS, flat_then_down, one_cycle, scheduled_optimizer
from tl_nla.errors import InputError


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 11, 20, 300])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_of_any_length_has_a_schedule(kind, steps):
    layer = torch.nn.Linear(3, 2)
    found = scheduled_optimizer(layer.named_parameters(), kind, 0.01, 0.0, steps)
    optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert all(0 <= rate <= 0.01 + 1e-12 for rate in rates)
    assert max(rates) > 0


def test_the_peak_of_a_long_run_is_early():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    schedule = one_cycle(optimizer, 0.5, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.5)
    assert rates.index(max(rates)) == 9
    assert [flat_then_down(step, 1000) for step in (0, 49, 300, 999)] == pytest.approx([0.02, 1.0, 1.0, 0.0016])


def test_unknown_optimizers_are_refused():
    with pytest.raises(InputError, match="unknown optimizer 'sgd'"):
        scheduled_optimizer([], "sgd", 0.1, 0.0, 5)
