import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from tests import families, zoo
from tl_nla.errors import InputError
from tl_nla.model.heads import HeadSum, OutProjection, out_projection, solve_heads
from tl_nla.model.reading import read
from tl_nla.model.rounding import Fit

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDTH, ROWS = 24, 10


class Bag:
    def __init__(self, **values):
        self.__dict__ |= values


class Block(nn.Module):
    def __init__(self, norm=None):
        super().__init__()
        if norm is not None:
            self.ln1_post = norm


def model_with(norm=None, **config):
    return Bag(blocks=[Block(norm)], original_model=Bag(config=Bag(**config)), cfg=Bag(n_heads=4, d_model=WIDTH))


def projection(kind, heads, width, bias, dtype):
    """An out-projection, and its weight as ``[head, width, d]``."""
    made = Conv1D(WIDTH, heads * width) if kind == "conv" else nn.Linear(heads * width, WIDTH, bias=bias)
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())) * 0.3)
    made = made.to(dtype)
    weight = made.weight if kind == "conv" else made.weight.T
    place = OutProjection(0, "attn", "blocks.0.attn.o.hook_in", made, heads, heads * width)
    return place, weight.detach().double().reshape(heads, width, WIDTH)


def inputs(heads, width, dtype, seed=0):
    return torch.randn(ROWS, heads * width, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=30)
@given(
    st.sampled_from(DTYPES), st.sampled_from(["linear", "conv"]), st.sampled_from([(4, 6), (4, 5), (1, 24), (3, 8)]),
    st.booleans(), st.sampled_from([1.0, 0.3]), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_writes_of_heads_are_their_slices_times_the_weight(dtype, kind, shape, bias, factor, by_head, seed):
    (heads, width), (place, weight) = shape, projection(kind, *shape, bias, dtype)
    z = inputs(heads, width, dtype, seed)
    write = place.module(z)
    given_ = z.unflatten(-1, shape) if by_head else z
    found = solve_heads(model_with(), place, given_, write, factor)
    expected = torch.einsum("nhd,hdm->nhm", z.double().unflatten(-1, shape), weight) * factor
    assert found.fit.exact
    torch.testing.assert_close(found.writes().double(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.writes([heads - 1])[:, 0], found.writes()[:, -1])
    offset = place.module.bias if place.module.bias is not None else torch.zeros(WIDTH)
    torch.testing.assert_close(found.constant, offset.float() * factor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", [nn.RMSNorm, nn.LayerNorm])
@pytest.mark.parametrize("bias", [False, True])
def test_behind_a_norm_heads_count_at_its_scale(dtype, norm, bias):
    behind = norm(WIDTH, eps=1e-5)
    with torch.no_grad():
        for value in behind.parameters():
            value.copy_(torch.randn(WIDTH, generator=torch.Generator().manual_seed(4)))
    behind = behind.to(dtype)
    place, weight = projection("linear", 4, 6, bias, dtype)
    z = inputs(4, 6, dtype)
    write = behind(place.module(z).float().to(dtype))
    found = solve_heads(model_with(behind), place, z, write, 0.5)
    assert found.fit.exact
    own = torch.einsum("nhd,hdm->nhm", z.double().unflatten(-1, (4, 6)), weight)
    total = own.sum(1) + (place.module.bias.double() if bias else 0)
    if norm is nn.LayerNorm:
        own, total = own - own.mean(-1, keepdim=True), total - total.mean(-1, keepdim=True)
    scale = (total.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = 0.5 * own / scale[:, None] * behind.weight.double()
    torch.testing.assert_close(found.writes().double(), expected.detach(), atol=1e-4, rtol=1e-3)
    whole = found.writes().sum(1) + found.constant
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(whole, 0.5 * write.detach().float(), atol=8 * step + 1e-5, rtol=2 * step + 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_of_the_configuration_between_sum_and_write(dtype):
    place, weight = projection("linear", 4, 6, True, dtype)
    z = inputs(4, 6, dtype)
    write = (place.module(z).float() * 0.22).to(dtype)
    found = solve_heads(model_with(residual_multiplier=0.22), place, z, write)
    expected = 0.22 * torch.einsum("nhd,hdm->nhm", z.double().unflatten(-1, (4, 6)), weight)
    torch.testing.assert_close(found.writes().double(), expected, atol=1e-4, rtol=1e-3)


@settings(max_examples=30)
@given(st.sampled_from(DTYPES), st.sampled_from(["scale", "shift", "head", "bent", "channel"]), st.integers(0, 99))
def test_a_write_that_is_not_the_heads_sum_is_refused(dtype, plant, seed):
    place, weight = projection("linear", 4, 6, True, dtype)
    z = inputs(4, 6, dtype, seed)
    write = place.module(z).detach().float()
    head = (z.double().unflatten(-1, (4, 6))[:, 1] @ weight[1]).float()
    changed = {
        "scale": 1.3 * write, "shift": write + 0.2 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)),
        "head": write + head, "bent": write + 0.3 * torch.tanh(write),
        "channel": write * (1 + 0.5 * (torch.arange(WIDTH) == 3)),
    }[plant].to(dtype)  # fmt: skip
    with pytest.raises(InputError, match=r"do not add up to its attn write \(off by .* read 'blocks.0.attn' instead"):
        solve_heads(model_with(), place, z, changed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_around_the_out_projection_counts(dtype):
    from peft import LoraConfig, inject_adapter_in_model

    owner = nn.Module()
    owner.o = projection("linear", 4, 6, True, dtype)[0].module
    inject_adapter_in_model(LoraConfig(r=4, target_modules=["o"]), owner)
    with torch.no_grad():
        for name, value in owner.o.named_parameters():
            if "lora" in name:
                value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(3)) * 0.1)
    place = OutProjection(0, "attn", "blocks.0.attn.o.hook_in", owner.o, 4, 24)
    z = inputs(4, 6, dtype)
    alone = torch.stack([z * (torch.arange(24) // 6 == head) for head in range(4)], 1)
    with torch.no_grad():
        bias, write = owner.o(torch.zeros_like(z)), owner.o(z)
        expected = owner.o(alone).float() - bias[:, None].float()
    found = solve_heads(model_with(), place, z, write)
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(found.writes(), expected, atol=10 * step + 1e-6, rtol=4 * step + 1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "deepseek_v3", "gemma2", "olmo2", "granite"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_of_real_attentions_add_up(family, dtype):
    model = families.bridge(family, dtype)
    tokens = zoo.tokens(1, 6)
    place = out_projection(model, 1)
    assert place.heads == zoo.N_HEADS
    reading = read(model, tokens, [*(f"blocks.1.attn.head.{head}" for head in range(place.heads)), "blocks.1.attn"])
    writes = torch.stack([reading.precise(f"blocks.1.attn.head.{head}") for head in range(place.heads)])
    step = torch.finfo(dtype).eps
    whole = reading.precise("blocks.1.attn").float()
    constant = next(iter(reading.sums.values())).constant
    torch.testing.assert_close(writes.sum(0) + constant, whole, atol=4 * step * float(whole.abs().max()), rtol=2 * step)


def test_no_heads_where_there_is_no_out_projection():
    model = families.bridge("mamba")
    with pytest.raises(InputError, match="has no attn, so it has no heads there"):
        out_projection(model, 0)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_heads_read_before_a_change_of_the_weights_are_never_those_behind_it(family):
    model = zoo.bridge(family)
    reading = read(model, zoo.tokens(1, 6), ["blocks.1.attn.head.2", "blocks.1.attn.head.0"])
    before = reading["blocks.1.attn.head.2"].clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    if family == "llama":  # whose weights are not copied
        with pytest.raises(InputError, match=r"weights have changed .* read them again"):
            reading["blocks.1.attn.head.0"]
        return
    assert torch.equal(reading["blocks.1.attn.head.2"], before)


def test_a_copy_of_heads_has_weights_of_its_own():
    owned = torch.randn(2, 3, 4)
    owned.add_(1.0)  # torch counts one change, and none of a copy
    heads = HeadSum(torch.randn(5, 2, 3), owned, torch.ones(()), torch.zeros(4), Fit(0.0, 0.0), owned._version)
    other = copy.deepcopy(heads)
    assert torch.equal(other.writes(), heads.writes())
    other.weight.add_(1.0)
    owned.add_(1.0)
    for changed in (other.writes, heads.writes, lambda: copy.deepcopy(heads)):
        with pytest.raises(InputError, match="read them again"):
            changed()
