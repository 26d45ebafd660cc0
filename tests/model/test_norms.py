import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tl_nla.model.norms import NormForm, epsilon, parameter, solve_norm

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDTH = 24


class Norm(nn.Module):
    """A norm of any of the known forms; half precisions compute in float32 and store, as the models do."""

    def __init__(self, seed, centred, kind, shifted, eps, name="weight"):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.centred, self.kind, self.variance_epsilon, self.name = centred, kind, eps, name
        if kind != "none":
            setattr(self, name, nn.Parameter(torch.randn(WIDTH, generator=draw) * 0.5 + (kind != "plus one")))
        if shifted:
            self.bias = nn.Parameter(torch.randn(WIDTH, generator=draw))

    def forward(self, x):
        y = x.float()
        y = y - y.mean(-1, keepdim=True) if self.centred else y
        y = y / (y.square().mean(-1, keepdim=True) + self.variance_epsilon).sqrt()
        if self.kind != "none":
            y = y * (getattr(self, self.name).float() + (self.kind == "plus one"))
        return (y + self.bias.float() if hasattr(self, "bias") else y).to(x.dtype)


class Wrapper(nn.Module):
    """What TransformerLens puts around a norm: it shows no parameter of its own."""

    def __init__(self, norm):
        super().__init__()
        self.original_component = norm

    def forward(self, x):
        return self.original_component(x)


def states(dtype, seed, rows=12, size=1.0):
    draw = torch.Generator().manual_seed(seed)
    return (torch.randn(2, rows // 2, WIDTH, generator=draw) * size + 0.3 * size).to(dtype)


FORMS = st.tuples(st.booleans(), st.sampled_from(["weight", "plus one", "none"]), st.booleans(),
                  st.sampled_from([1e-6, 1e-5, 1e-2]))  # fmt: skip


@settings(max_examples=40)
@given(st.sampled_from(DTYPES), FORMS, st.booleans(), st.floats(0.1, 10), st.integers(0, 999))
def test_every_form_is_found_in_every_precision(dtype, form, wrapped, size, seed):
    centred, kind, shifted, eps = form
    norm = Norm(seed, centred, kind, shifted, eps).to(dtype)
    x = states(dtype, seed, size=size)
    found = solve_norm(Wrapper(norm) if wrapped else norm, x, norm(x))
    assert found.fit.exact
    assert not found.identity
    assert found.centred == centred
    gain = torch.ones(WIDTH) if kind == "none" else norm.weight.float() + (kind == "plus one")
    torch.testing.assert_close(found.gain, gain.detach(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.shift, norm.bias.float() if shifted else torch.zeros(WIDTH))
    assert found.eps == eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("kind", ["weight", "plus one"])
def test_a_gain_in_a_parameter_of_a_strange_name_is_found(dtype, centred, kind):
    norm = Norm(1, centred, kind, False, 1e-5, name="loudness").to(dtype)
    x = states(dtype, 1)
    found = solve_norm(Wrapper(norm), x, norm(x))
    assert found.fit.exact
    expected = norm.loudness.detach().float() + (kind == "plus one")
    torch.testing.assert_close(found.gain, expected, atol=2e-3, rtol=2e-3)


@settings(max_examples=40)
@given(st.sampled_from(DTYPES), FORMS, st.integers(0, 6), st.integers(0, 999))
def test_a_planted_error_is_never_an_exact_fit(dtype, form, error, seed):
    norm = Norm(seed, *form).to(dtype)
    x = states(dtype, seed)
    y = norm(x).float()
    one = (torch.arange(WIDTH) == seed % WIDTH).float()
    planted = [
        y * 1.05, y * (1 + 0.5 * one), y + 0.5 * one, y + 0.2 * torch.tanh(y), y.roll(1, -1), y + 0.1 * x.float(),
        y + 0.2 * torch.linspace(-1, 1, WIDTH),
    ][error].to(dtype)  # fmt: skip
    assert not solve_norm(Wrapper(norm), x, planted).fit.exact


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_norm_is_the_identity(dtype):
    x = states(dtype, 3)
    found = solve_norm(None, x, x)
    assert found.identity
    assert found.fit.exact
    assert torch.equal(found(x), x.float())
    assert torch.equal(found.scale(x), torch.ones(*x.shape[:-1], 1))


@settings(max_examples=30)
@given(st.booleans(), st.booleans(), st.integers(0, 999))
def test_pull_back_is_the_transpose_of_linear(centred, identity, seed):
    draw = torch.Generator().manual_seed(seed)
    gain, shift = torch.randn(2, WIDTH, generator=draw)
    form = NormForm(torch.ones(WIDTH) if identity else gain, shift, centred and not identity, 1e-5, identity)
    x, row = torch.randn(2, 7, WIDTH, generator=draw)
    scale = form.scale(torch.randn(7, WIDTH, generator=draw))
    forward = (form.linear(x, scale) * row).sum(-1)
    torch.testing.assert_close(forward, (x * form.pull_back(row, scale)).sum(-1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(form(x), form.linear(x, form.scale(x)) + shift)


def test_linear_is_the_norm_itself_at_its_own_scale():
    norm, x = nn.LayerNorm(WIDTH), states(torch.float32, 5)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(solve_norm(norm, x, norm(x))(x), norm(x).detach(), atol=1e-5, rtol=1e-5)


def test_eps_goes_by_many_names():
    class Bare:
        pass

    for name in ("eps", "variance_epsilon", "epsilon"):
        module = Bare()
        setattr(module, name, 1e-3)
        assert epsilon(module, 1e-5) == 1e-3
        setattr(module, name, torch.tensor(0.5))
        assert epsilon(module, 1e-5) == 0.5
        outer = Bare()
        outer.original_component = module
        assert epsilon(outer, 1e-5) == 0.5
    assert epsilon(Bare(), 1e-5) == 1e-5
    assert parameter(Bare(), "weight") is None


def test_a_norm_that_cannot_be_probed_keeps_the_other_candidates():
    class Grim(Norm):
        def forward(self, x):
            if len(x.shape) == 3 and x.shape[:2] == (1, 2):
                raise ValueError("not this shape")
            return super().forward(x)

    norm, x = Grim(2, False, "weight", False, 1e-5), states(torch.float32, 2)
    assert solve_norm(Wrapper(norm), x, norm(x)).fit.exact
