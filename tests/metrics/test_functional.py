"""The definitions, against slow references."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


def slow_fve(preds, targets, mean, failed):
    """FVE row by row in plain Python floats."""
    d = targets.shape[1]

    def unit(v):
        v = [float(x) for x in v]
        norm = math.sqrt(sum(x * x for x in v))
        return [x / norm * math.sqrt(d) for x in v]

    truth = [unit(t) for t in targets]
    centre = [sum(t[j] for t in truth) / len(truth) for j in range(d)] if mean is None else [float(m) for m in mean]
    top = bottom = 0.0
    for i, t in enumerate(truth):
        p = unit(preds[i])
        top += 2.0 * d if failed[i] else sum((a - b) ** 2 for a, b in zip(p, t, strict=True))
        bottom += sum((a - b) ** 2 for a, b in zip(t, centre, strict=True))
    return 1 - top / bottom


@given(n=st.integers(2, 12), d=st.integers(2, 9), seed=st.integers(0, 10_000), with_mean=st.booleans())
def test_fve_is_the_slow_one(n, d, seed, with_mean):
    from tl_nla.metrics import fve

    g = torch.Generator().manual_seed(seed)
    preds, targets = torch.randn(n, d, generator=g), torch.randn(n, d, generator=g) + 0.5
    failed = torch.rand(n, generator=g) < 0.2
    mean = torch.randn(d, generator=g) if with_mean else None
    expected = slow_fve(preds, targets, mean, failed.tolist())
    assert fve(preds, targets, mean, failed).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_landmarks():
    from tl_nla.metrics import fve, normalise

    targets = torch.randn(50, 8)
    mean = normalise(targets.double()).mean(0)
    assert fve(targets * 3, targets).item() == pytest.approx(1)  # direction only
    assert fve(mean.float().expand(50, 8), targets, normalised=False).item() <= 1e-6
    failed = torch.ones(50, dtype=torch.bool)
    cos_zero = 2 * 8 * 50 / (normalise(targets.double()) - mean).square().sum()
    assert fve(targets, targets, failed=failed).item() == pytest.approx(1 - cos_zero.item(), rel=1e-4)


def test_a_prediction_that_is_not_finite_fails():
    from tl_nla.metrics import squared_errors

    preds, targets = torch.randn(3, 4), torch.randn(3, 4)
    preds[1, 2] = torch.nan
    assert squared_errors(preds, targets)[1] == 8
    assert torch.equal(
        squared_errors(preds, targets), squared_errors(preds.nan_to_num(), targets, preds.isnan().any(1))
    )


def test_unnormalised_is_the_usual_r2():
    from tl_nla.metrics import fve

    preds, targets = torch.randn(40, 5), torch.randn(40, 5) * 3 + 7
    p, t = preds.double().numpy(), targets.double().numpy()
    expected = 1 - ((p - t) ** 2).sum() / ((t - t.mean(0)) ** 2).sum()
    assert fve(preds, targets, normalised=False).item() == pytest.approx(expected)


def test_normalise_and_cosine():
    from tl_nla.metrics import cosine, normalise

    v = torch.randn(6, 16)
    torch.testing.assert_close(normalise(v).square().mean(-1), torch.ones(6))
    assert torch.equal(normalise(torch.zeros(2, 4)), torch.zeros(2, 4))
    a, b = v[:3], v[3:]
    torch.testing.assert_close(cosine(a, b), torch.nn.functional.cosine_similarity(a.double(), b.double()))
    assert cosine(torch.zeros(1, 4), torch.ones(1, 4)).item() == 0


def test_constant_targets_have_no_fve():
    from tl_nla.metrics import fve

    assert math.isnan(fve(torch.randn(3, 4), torch.zeros(3, 4)).item())


def test_refuses_targets_that_are_not_finite():
    from tl_nla.errors import InputError
    from tl_nla.metrics import squared_errors

    with pytest.raises(InputError, match="NaN or infinite"):
        squared_errors(torch.randn(3, 4), torch.full((3, 4), torch.inf))


def test_recall_at_k():
    from tl_nla.metrics import recall_at_k

    predicted = torch.tensor([[1, 2, 3], [4, -1, -1], [5, 6, 7]])
    target = torch.tensor([[3, 9], [4, -1], [-1, -1]])
    np.testing.assert_allclose(recall_at_k(predicted, target).numpy(), [0.5, 1.0, np.nan])
