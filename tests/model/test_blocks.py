import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_nla.model.blocks import BlockForm, Branch, kind_of, solve_block

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPE = (1, 8, 48)
PARTS = ("hook_attn_out", "hook_mlp_out", "mixer.hook_out", "per_layer.hook_out")
DECOYS = ("attn.hook_out", "ln1.hook_out", "mlp.gate.hook_out", "attn.q.hook_out", "hook_mid")


def random(seed, size=1.0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * size


def block(dtype, seed, parts, carry=1.0, factors=None, stream=1.0, decoys=DECOYS, extra=None):
    """The tensors of a block of known form, summed in float32 and stored once."""
    factors = factors or [1.0] * len(parts)
    values = {"blocks.2.hook_resid_pre": random(seed, stream).to(dtype)}
    values |= {f"blocks.2.{name}": random(seed + 1 + i).to(dtype) for i, name in enumerate(parts)}
    total = values["blocks.2.hook_resid_pre"].float()
    for name, factor in zip(parts, factors, strict=True):
        total = total + factor * values[f"blocks.2.{name}"].float()
    total = carry * total if extra is None else carry * total + extra
    values |= {f"blocks.2.{name}": random(seed + 50 + i).to(dtype) for i, name in enumerate(decoys)}
    values["blocks.2.hook_resid_post"] = total.to(dtype)
    values["blocks.1.hook_attn_out"] = random(seed + 90).to(dtype)  # of another block
    return values


def left_over(form, values):
    """How much the form's sum misses, as a share of the block's output."""
    after = values["blocks.2.hook_resid_post"].double()
    ours = form.carry * values["blocks.2.hook_resid_pre"].double()
    ours = ours + sum(form.write(kind, values).double() for kind in form.kinds)
    return float((after - ours).norm() / after.norm())


@settings(max_examples=40)
@given(
    st.sampled_from(DTYPES), st.sets(st.sampled_from(PARTS), min_size=1), st.sampled_from([1.0, 1.0, 0.5, 1.05, 0.37]),
    st.lists(st.sampled_from([1.0, 0.6, 0.22, 2.5]), min_size=4, max_size=4), st.booleans(), st.integers(0, 999),
)  # fmt: skip
def test_carry_factors_and_parts_are_found_among_decoys(dtype, chosen, carry, factors, told, seed):
    parts = [name for name in PARTS if name in chosen]
    values = block(dtype, seed, parts, carry, factors[: len(parts)])
    form = solve_block(2, values, [carry, *factors] if told else [])
    assert form.fit.exact
    assert {branch.point for branch in form.branches} == {f"blocks.2.{name}" for name in parts}
    assert left_over(form, values) <= 1.5 * torch.finfo(dtype).eps + 1e-6
    found = {branch.point: branch.factor for branch in form.branches}
    tolerance = 1e-4 if told or dtype == torch.float32 else 0.02
    assert abs(form.carry - carry) <= tolerance
    for name, factor in zip(parts, factors, strict=False):
        assert abs(found[f"blocks.2.{name}"] - factor) <= tolerance * max(1, factor)


@settings(max_examples=20)
@given(st.sampled_from(DTYPES), st.sampled_from([3.0, 30.0, 100.0]), st.integers(0, 999))
def test_small_parts_beside_a_large_stream_keep_their_names(dtype, stream, seed):
    """They may hide in the rounding of the sum; what TransformerLens names is a part all the same."""
    values = block(dtype, seed, PARTS[:2], stream=stream)
    form = solve_block(2, values)
    assert form.kinds == ("attn", "mlp")
    assert form.carry == 1.0
    assert all(branch.factor == 1.0 for branch in form.branches)
    assert torch.equal(form.write("mlp", values), values["blocks.2.hook_mlp_out"])


@settings(max_examples=20)
@given(st.sampled_from(DTYPES), st.sampled_from(["tanh", "constant", "channel", "product"]), st.integers(0, 999))
def test_a_dropped_branch_leaves_no_form(dtype, kind, seed):
    x = random(seed)
    extra = {
        "tanh": 0.3 * torch.tanh(x), "constant": torch.full(SHAPE, 0.2), "product": 0.2 * x * random(seed + 1),
        "channel": torch.zeros(SHAPE).index_fill(2, torch.tensor([7]), 0.3),
    }[kind]  # fmt: skip
    form = solve_block(2, block(dtype, seed, PARTS[:2], extra=extra))
    assert form.branches == ()
    assert form.kinds == ()
    assert form.carry == 1.0
    assert 0.005 < form.fit.error < 0.5


def test_a_block_that_forgets_its_input_is_no_sum():
    values = block(torch.float32, 0, PARTS[:2])
    values["blocks.2.hook_resid_post"] = random(77)
    assert not solve_block(2, values).branches


def test_a_block_that_shows_no_stream_is_no_sum():
    assert solve_block(2, {"blocks.2.hook_attn_out": random(0)}) == BlockForm(2)


def test_a_write_of_two_pieces_is_their_sum_with_their_factors():
    form = BlockForm(0, (Branch("mlp", "a", 0.5), Branch("mlp", "b"), Branch("attn", "c")), carry=2.0)
    values = {name: random(i) for i, name in enumerate("abc")}
    torch.testing.assert_close(form.write("mlp", values), values["a"] + 2 * values["b"])
    torch.testing.assert_close(form.write("attn", values), 2 * values["c"])
    assert form.kinds == ("attn", "mlp")
    assert form.points("mlp") == ["a", "b"]


@pytest.mark.parametrize(
    ("point", "kind"),
    [
        ("hook_attn_out", "attn"),
        ("ln1_post.hook_out", "attn"),
        ("hook_mlp_out", "mlp"),
        ("block_sparse_moe.hook_out", "mlp"),
        ("linear_attn.hook_out", "mixer"),
        ("conv.hook_out", "mixer"),
        ("per_layer_projection.hook_out", "ple"),
    ],
)
def test_parts_are_of_the_kind_that_their_sublayer_is_named_after(point, kind):
    assert kind_of(f"blocks.11.{point}") == kind
