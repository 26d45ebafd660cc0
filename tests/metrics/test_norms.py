"""Vectors at a norm: the textbook value and gradient at ordinary lengths, bounded gradients at all others."""

import pytest
import torch

from tl_nla.metrics.norms import SHORTEST, at_least_float32, log_norm, normalise, scale_to_norm
from tl_nla.nla.injection import Injection, InjectionConfig
from tl_nla.nla.policy import mean_squared_errors

D = 16
DIRECTION = torch.randn(3, D, generator=torch.Generator().manual_seed(0))
SHORT = [0.0, 1e-44, 1e-40, 1e-30, 1e-20, 1e-12, 1e-7]


def gradient(function, vectors):
    vectors = vectors.clone().requires_grad_()
    torch.manual_seed(1)
    found = function(vectors)
    (found * torch.randn(found.shape, dtype=found.dtype)).sum().backward()
    return vectors.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e5])
def test_ordinary_vectors_are_divided_by_their_norm(size, dtype):
    def textbook(vectors):
        return vectors / vectors.norm(dim=-1, keepdim=True) * 7

    vectors = (size * DIRECTION).to(dtype)
    torch.testing.assert_close(scale_to_norm(vectors, 7.0), textbook(vectors))
    found, right = gradient(lambda v: scale_to_norm(v, 7.0), vectors), gradient(textbook, vectors)
    torch.testing.assert_close(found, right)
    torch.testing.assert_close(log_norm(vectors), vectors.norm(dim=-1).log())
    torch.testing.assert_close(gradient(log_norm, vectors), gradient(lambda v: v.norm(dim=-1).log(), vectors))


@pytest.mark.parametrize("size", SHORT)
@pytest.mark.parametrize("function", [normalise, log_norm, lambda v: scale_to_norm(v, D**0.5)])
def test_gradients_of_short_vectors_are_bounded(function, size):
    found = gradient(function, size * DIRECTION)
    assert torch.isfinite(found).all()
    # 4 for the random numbers that come in
    assert found.abs().max() <= 4 / SHORTEST


@pytest.mark.parametrize("size", SHORT[1:])
def test_short_vectors_keep_their_direction(size):
    vectors = size * DIRECTION
    torch.testing.assert_close(normalise(vectors).double(), normalise(vectors.double() / size))


def test_zero_stays_zero_and_can_be_moved():
    vectors = torch.zeros(2, D, requires_grad=True)
    found = normalise(vectors)
    assert not found.any()
    found[:, 0].sum().backward()
    assert (vectors.grad[:, 0] > 0).all()
    assert not vectors.grad[:, 1:].any()


def test_squares_may_overflow():
    torch.testing.assert_close(normalise(1e30 * DIRECTION), normalise(DIRECTION))
    assert gradient(normalise, 1e30 * DIRECTION).abs().max() < 1e-20


def test_long_and_short_rows_do_not_meet():
    mixed = torch.cat([DIRECTION, 1e-20 * DIRECTION, torch.zeros(1, D)])
    alone = gradient(normalise, DIRECTION)
    torch.testing.assert_close(gradient(normalise, mixed)[:3], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    vectors = DIRECTION.to(dtype)
    assert normalise(vectors).dtype == dtype
    assert torch.equal(normalise(vectors), normalise(vectors.float()).to(dtype))
    assert scale_to_norm(vectors, 3.0).dtype == at_least_float32(vectors).dtype == torch.float32


@pytest.mark.parametrize("size", SHORT)
def test_losses_and_injections_have_bounded_gradients(size):
    right = torch.randn(3, D, generator=torch.Generator().manual_seed(2))
    assert gradient(lambda v: mean_squared_errors(v, right), size * DIRECTION).abs().max() < 1e6
    for kind in ("constant", "sqrt_d", "affine", "additive"):
        injection = Injection(InjectionConfig(kind, 2.0 if kind in ("constant", "affine") else None), D)
        assert gradient(injection, size * DIRECTION).abs().max() < 1e6
