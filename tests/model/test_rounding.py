import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_nla.model.rounding import NO_FIT, Fit, allowed_error, compare, step_of

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(st.sampled_from(DTYPES), st.integers(1, 6), st.floats(1e-2, 1e2), st.integers(0, 999))
def test_a_sum_that_was_only_stored_is_exact(dtype, count, size, seed):
    terms = [(random(3, 32, seed=seed + i) * size).to(dtype) for i in range(count)]
    stored = torch.stack([term.double() for term in terms]).sum(0).to(dtype)
    fit = compare(stored, terms, step_of(stored))
    assert fit.exact
    assert fit.error <= torch.finfo(dtype).eps


@settings(max_examples=30)
@given(st.sampled_from(DTYPES), st.floats(0.05, 2.0), st.integers(0, 95), st.integers(0, 999))
def test_one_wrong_element_is_found_beside_large_ones(dtype, error, place, seed):
    """In bfloat16 a tolerance that goes with the largest number of the tensor would miss it."""
    terms = [random(3, 32, seed=seed), random(3, 32, seed=seed + 1)]
    terms[0].flatten()[(place + 40) % 96] = 50.0  # a large outlier, in another row
    stored = sum(terms)
    stored.flatten()[place] += math.copysign(error * (1 + sum(abs(t.flatten()[place]) for t in terms)), 1)
    assert not compare(stored.to(dtype), terms, torch.finfo(dtype).eps).exact


def test_allowed_error_grows_with_the_element_and_the_precision():
    terms = [torch.tensor([[1.0, 100.0]])]
    fine, coarse = (allowed_error(terms, torch.finfo(dtype).eps) for dtype in (torch.float32, torch.bfloat16))
    assert bool((coarse > 4 * fine).all())
    assert coarse[0, 1] > 20 * coarse[0, 0]


def test_step_is_that_of_the_coarsest():
    half, single = torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1)
    assert step_of(single, half) == step_of(half) == torch.finfo(torch.bfloat16).eps
    assert step_of(single) == torch.finfo(torch.float32).eps


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_fit(bad):
    given_ = torch.tensor([[1.0, bad]])
    assert compare(given_, [torch.ones(1, 2)], 1e-7) == NO_FIT
    assert not NO_FIT.exact


def test_nothing_is_exact_and_a_fit_says_its_figures():
    assert compare(torch.zeros(0, 4), [torch.zeros(0, 4)], 1e-7) == Fit(0.0, 0.0)
    assert str(Fit(0.25, 3.0)) == "off by 25.00%, 3 times what rounding permits"
    assert Fit(0.1, 1.0).exact
    assert not Fit(0.0, 1.01).exact
