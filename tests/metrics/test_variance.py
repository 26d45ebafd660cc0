"""The metric object equals its functional twin however the rows arrive."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


def data(n=40, d=6, seed=0, offset=0.0):
    g = torch.Generator().manual_seed(seed)
    targets = torch.randn(n, d, generator=g) + offset
    return targets + 0.3 * torch.randn(n, d, generator=g), targets


def build(mean=None, **kwargs):
    from tl_nla.metrics import FractionOfVarianceExplained

    return FractionOfVarianceExplained(mean=mean, **kwargs)


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
@given(cuts=st.lists(st.integers(1, 39), max_size=5, unique=True), seed=st.integers(0, 1000))
def test_batches_and_order_do_not_matter(with_mean, normalised, cuts, seed):
    from tl_nla.metrics import fve

    preds, targets = data(seed=seed)
    mean = torch.randn(6) if with_mean else None
    failed = torch.rand(40) < 0.1
    metric = build(mean, normalised=normalised)
    order = torch.randperm(40)
    for rows in order.tensor_split(sorted(cuts)):
        metric.update(preds[rows], targets[rows], failed[rows])
    expected = fve(preds, targets, mean, failed, normalised)
    torch.testing.assert_close(metric.compute(), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e3, 1e4])
def test_large_offsets_do_not_spoil_it(offset):
    preds, targets = data(n=400, offset=0.0)
    preds, targets = preds.double() + offset, targets.double() + offset
    metric = build(normalised=False)
    metric.update(preds, targets)
    residual, spread = (preds - targets).square().sum(), (targets - targets.mean(0)).square().sum()
    assert metric.compute().item() == pytest.approx((1 - residual / spread).item(), abs=1e-6)


def test_bfloat16_rows_are_summed_in_float64():
    preds, targets = (x.bfloat16() for x in data())
    metric = build()
    metric.update(preds, targets)
    twin = build()
    twin.update(preds.double(), targets.double())
    assert metric.compute().dtype == torch.float64
    torch.testing.assert_close(metric.compute(), twin.compute())


def test_half_keeps_float64_states():
    module = torch.nn.Module()
    module.metric = build()
    module.half()
    assert module.metric.errors.dtype == torch.float64


@pytest.mark.parametrize("with_mean", [True, False])
def test_merge_pickle_and_reset(with_mean):
    preds, targets = data()
    mean = torch.randn(6) if with_mean else None
    whole, left, right = build(mean), build(mean), build(mean)
    whole.update(preds, targets)
    left.update(preds[:13], targets[:13])
    right.update(preds[13:], targets[13:])
    left.merge_state(right)
    torch.testing.assert_close(left.compute(), whole.compute())
    torch.testing.assert_close(pickle.loads(pickle.dumps(whole)).compute(), whole.compute())  # noqa: S301
    whole.reset()
    whole.update(preds[:5], targets[:5])
    fresh = build(mean)
    fresh.update(preds[:5], targets[:5])
    torch.testing.assert_close(whole.compute(), fresh.compute())


def test_no_variance_is_no_number():
    metric = build()
    metric.update(torch.randn(4, 3), torch.ones(4, 3))
    assert metric.compute().isnan()


def test_refuses_a_mean_of_another_width():
    from tl_nla.errors import InputError

    with pytest.raises(InputError, match="d_model 6, the training-set mean 5"):
        build(torch.zeros(5)).update(*data())
    with pytest.raises(InputError, match="NaN"):
        build(torch.tensor([torch.nan]))
