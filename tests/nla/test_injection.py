import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.errors import InputError
from tl_nla.nla.injection import KINDS, Injection, InjectionConfig, change_stream, scale_to_norm

D = 8


def config(kind, slots=1):
    return InjectionConfig(kind, 6.0 if kind in ("constant", "affine") else None, slots)


def vectors(seed=0, n=4, size=1.0):
    return size * torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kind", "norm"), [("constant", 6.0), ("sqrt_d", D**0.5), ("additive", 1.0), ("affine", 6.0)])
@given(seed=st.integers(0, 50), size=st.floats(1e-3, 1e4), slots=st.integers(1, 3))
def test_norm_and_direction(kind, norm, seed, size, slots):
    acts = vectors(seed, size=size)
    out = Injection(config(kind, slots), D)(acts).detach()
    assert out.shape == (4, slots, D)
    torch.testing.assert_close(out.norm(dim=-1), torch.full((4, slots), norm))
    torch.testing.assert_close(out / norm, (acts / acts.norm(dim=-1, keepdim=True))[:, None].expand_as(out))


@given(seed=st.integers(0, 50))
def test_raw_is_left_alone(seed):
    acts = vectors(seed)
    assert torch.equal(Injection(config("raw"), D)(acts)[:, 0], acts)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_stays_zero(kind):
    assert not Injection(config(kind), D)(torch.zeros(2, D)).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_come_out_as_float32(kind, dtype):
    out = Injection(config(kind), D)(vectors().to(dtype))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, Injection(config(kind), D)(vectors()), atol=0.05, rtol=0.05)


def test_norm_of_large_half_precision_vectors_does_not_overflow():
    out = scale_to_norm(torch.full((1, D), 6e4, dtype=torch.float16), 3.0)
    assert out.norm() == pytest.approx(3.0)


def test_affine_learns_each_slot_on_its_own():
    injection = Injection(config("affine", 2), D)
    assert {name for name, _ in injection.named_parameters()} == {"weight", "bias"}
    injection(vectors())[:, 1].sum().backward()
    assert injection.weight.grad[1].any()
    assert not injection.weight.grad[0].any()


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"affine"}))
def test_the_others_learn_nothing(kind):
    assert not list(Injection(config(kind), D).parameters())


@pytest.mark.parametrize("kind", ["additive", "norm_matched", "patched"])
@given(seed=st.integers(0, 50), places=st.sets(st.integers(0, 5), min_size=1, max_size=3), strength=st.floats(0.5, 2))
def test_changes_of_a_stream_against_a_loop(kind, seed, places, strength):
    stream = torch.randn(4, 6, D, generator=torch.Generator().manual_seed(seed))
    before, places = stream.clone(), sorted(places)
    settings = InjectionConfig(kind, None, len(places), strength=strength)
    put = Injection(settings, D)(vectors(seed + 1))
    out = change_stream(stream, put, places, settings)
    expected = stream.clone()
    for row in range(4):
        for slot, place in enumerate(places):
            here = stream[row, place]
            new = put[row, slot] if kind == "patched" else strength * here.norm() * put[row, slot]
            expected[row, place] = here + new if kind == "additive" else new
    torch.testing.assert_close(out, expected)
    assert torch.equal(stream, before)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"kind": "constnat"}, "nearest: constant"),
        ({"kind": "constant"}, "scale None"),
        ({"kind": "constant", "scale": 0.0}, "scale 0.0"),
        ({"kind": "affine", "scale": -3.0}, "scale -3.0"),
        ({"kind": "constant", "scale": float("nan")}, "scale nan"),
        ({"kind": "constant", "scale": float("inf")}, "scale inf"),
        ({"kind": "raw", "slots": 0}, "0 slots"),
        ({"kind": "additive", "block": -1}, "block -1 and strength"),
        ({"kind": "additive", "strength": 0.0}, "strength 0.0"),
    ],
)
def test_refusals(settings, match):
    with pytest.raises(InputError, match=match):
        InjectionConfig(**settings)
