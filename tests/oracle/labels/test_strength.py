import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.errors import InputError
from tl_nla.oracle.labels import STEPS, StrengthReference, relative_norm

SITE = "blocks.0.attn.head.1"


def vectors(seed=0, rows=500):
    generator = torch.Generator().manual_seed(seed)
    scales = torch.randn(rows, 1, generator=generator).exp()
    return torch.randn(rows, 8, generator=generator) * scales, torch.randn(rows, 8, generator=generator)


def reference():
    return StrengthReference.measure({SITE: vectors(), "blocks.1.mlp": vectors(1)})


def test_percentile_is_the_share_of_smaller_relative_norms():
    write, before = vectors()
    ratio = relative_norm(write, before)
    true = torch.stack([(ratio < value).float().mean() * 100 for value in ratio])
    assert (reference().percentile(SITE, write, before) - true).abs().max() < 1.0
    assert reference().percentile(SITE, 1e6 * write, before).min() == 100
    assert reference().percentile(SITE, 0 * write, before).max() == 0


@given(st.floats(0.5, 100), st.integers(0, 99))
def test_stronger_is_never_a_smaller_step(factor, seed):
    write, before = vectors(seed, 20)
    ref = StrengthReference({}, 0.1, 10.0)
    weak, strong = ref.step(write, before), ref.step(write * max(1, factor), before)
    assert (strong >= weak).all()
    assert (weak <= len(STEPS) - 1).all()


def test_nothing_is_relative_to_the_state():
    write, before = vectors()
    steps = reference().step(write, before * 1e6)
    assert (steps == 0).all()
    assert (reference().step(write, before * 1e-6) > 0).all()


def test_saved_and_loaded(tmp_path):
    ref = reference()
    ref.save(tmp_path / "strength.safetensors")
    again = StrengthReference.load(tmp_path / "strength.safetensors")
    assert (again.low, again.high, again.nothing_below) == (ref.low, ref.high, ref.nothing_below)
    assert all(torch.equal(again.quantiles[site], value) for site, value in ref.quantiles.items())


def test_refusals():
    write, before = vectors()
    with pytest.raises(InputError, match="unknown site"):
        reference().percentile("blocks.7", write, before)
    with pytest.raises(InputError, match="all writes are zero"):
        StrengthReference.measure({SITE: (write * 0, before)})
    with pytest.raises(InputError, match="smaller first"):
        StrengthReference({}, 2.0, 1.0)
