import pytest
import torch

from tl_nla.errors import InputError
from tl_nla.metrics.ridge import fit_ridge


def rows(seed=0, n=40, d_in=5, d_out=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d_in, generator=generator) + 2, torch.randn(n, d_out, generator=generator) - 1


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("d_in", [5, 60])  # of 60, more than rows, another system is solved
def test_it_minimises_the_penalised_error(relative, centre, d_in):
    """A slow reference: gradient of the objective at the solution."""
    inputs, targets = rows(d_in=d_in)
    fitted = fit_ridge(inputs, targets, 0.3, relative=relative, centre=centre)
    left = inputs.double() - (inputs.double().mean(0) if centre else 0)
    weight = fitted.weight.clone().requires_grad_()
    scale = (left.T @ left).diagonal().mean() if relative else 1.0
    right = targets.double() - targets.double().mean(0)
    loss = (left @ weight - right).square().sum() + 0.3 * scale * weight.square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    assert float(gradient.abs().max()) < 1e-9
    assert torch.allclose(fitted.predict(inputs), left @ fitted.weight + targets.double().mean(0))


def test_scaled_inputs_give_the_same_predictions_where_decay_is_relative():
    inputs, targets = rows()
    small, large = fit_ridge(inputs, targets, 0.1), fit_ridge(inputs * 1000, targets, 0.1)
    assert torch.allclose(small.predict(inputs), large.predict(inputs * 1000))


@pytest.mark.usefixtures("unchecked")
def test_rows_must_match():
    inputs, targets = rows()
    with pytest.raises(InputError, match="39 rows of inputs for 40"):
        fit_ridge(inputs[1:], targets, 0.1)
    with pytest.raises(InputError, match="1 or more"):
        fit_ridge(inputs[:0], targets[:0], 0.1)
