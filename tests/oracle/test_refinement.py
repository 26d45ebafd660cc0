"""The network behind a write reconstructor's head."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import gelu, layer_norm

from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.oracle.refinement import Refinement

TEXTS = ["It promotes red", "It", "layer 1 head 0 suppresses blue green; strength huge"]


def shaken(refinement):
    """No longer the identity."""
    with torch.no_grad():
        for place, parameter in enumerate(refinement.parameters()):
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(place))
    return refinement


@pytest.fixture(scope="module")
def refined():
    oracle = make_oracle(blocks=1)
    oracle.reconstructor.add_refinement(12)
    return oracle


@given(width=st.integers(1, 6), d_act=st.integers(1, 6), hidden=st.integers(1, 6), seed=st.integers(0, 99))
def test_it_starts_as_no_correction(width, d_act, hidden, seed):
    draw = torch.Generator().manual_seed(seed)
    states, read = torch.randn(3, 2 * width, generator=draw), torch.randn(3, d_act + 1, generator=draw)
    found = Refinement(width, d_act, hidden)(states, read)
    torch.testing.assert_close(found[:, :d_act], normalise(read[:, :d_act]))
    torch.testing.assert_close(found[:, d_act], read[:, d_act])


def test_a_fresh_one_leaves_what_is_read_back_as_it_is():
    oracle = make_oracle(blocks=1)
    before = oracle.reconstruct(TEXTS)
    oracle.reconstructor.add_refinement(12)
    torch.testing.assert_close(oracle.reconstruct(TEXTS), before)


def test_it_is_what_its_formula_says():
    made = shaken(Refinement(4, 3, 5))
    states, read = torch.randn(2, 8), torch.randn(2, 4)
    ends = [
        layer_norm(part, (4,), norm.weight, norm.bias)
        for part, norm in zip(states.split(4, 1), made.norms, strict=True)
    ]
    hidden = torch.cat(ends, 1) @ made.first.weight.T + made.first.bias
    for block in made.blocks:
        inner = layer_norm(hidden, (5,), block.norm.weight, block.norm.bias) @ block.inner.weight.T + block.inner.bias
        hidden = hidden + gelu(inner) @ block.outer.weight.T + block.outer.bias
    wanted = hidden @ made.out.weight.T + made.out.bias + torch.cat([normalise(read[:, :3]), read[:, 3:]], 1)
    torch.testing.assert_close(made(states, read), wanted)


def test_it_reads_the_last_state_and_the_mean_of_the_real_ones():
    reconstructor = make_oracle(blocks=1).reconstructor
    ids, mask = reconstructor.encode(TEXTS)
    with torch.no_grad():
        ends = reconstructor.ends(ids, mask)
        for row, real in enumerate(mask):
            states = reconstructor.backbone(input_ids=ids[row : row + 1, real]).last_hidden_state[0]
            torch.testing.assert_close(ends[row], torch.cat([states[-1], states.mean(0)]), rtol=1e-4, atol=1e-5)


def test_padding_and_company_change_nothing(refined):
    shaken(refined.reconstructor.refinement)
    together = refined.reconstruct(TEXTS)
    alone = torch.cat([refined.reconstruct([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together, refined.reconstruct(TEXTS, refined=False))


def test_without_it_the_linear_head_reads(refined):
    shaken(refined.reconstructor.refinement)
    linear = make_oracle(blocks=1)
    torch.testing.assert_close(refined.reconstruct(TEXTS, refined=False), linear.reconstruct(TEXTS))


def test_a_training_on_prompts_reaches_it(refined):
    reconstructor = refined.reconstructor
    reconstructor.zero_grad()
    reconstructor.loss(TEXTS, vectors(3)[1], prefix_weight=0.5).backward()
    assert all(parameter.grad is not None for parameter in reconstructor.refinement.parameters())
    assert reconstructor.backbone.get_input_embeddings().weight.grad.abs().sum() > 0
    reconstructor.zero_grad(set_to_none=True)


def test_saved_and_loaded(tmp_path):
    made = shaken(Refinement(4, 3, 5))
    states, read = torch.randn(2, 8), torch.randn(2, 4)
    made.save(tmp_path / "whole.safetensors")
    torch.testing.assert_close(Refinement.load(tmp_path / "whole.safetensors")(states, read), made(states, read))
    made.save(tmp_path / "half.safetensors", torch.float16)
    half = Refinement.load(tmp_path / "half.safetensors")
    assert half.out.weight.dtype == torch.float32
    torch.testing.assert_close(half(states, read), made(states, read), rtol=1e-2, atol=1e-2)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match="hidden is 0; at least 1"):
        Refinement(4, 3, 0)
    reconstructor = make_oracle(blocks=1).reconstructor
    size = reconstructor.d_act
    with pytest.raises(InputError, match=f"writes of size {size + 1}, the reconstructor has"):
        reconstructor.use_refinement(Refinement(reconstructor.head.in_features, size + 1, 4))
    (tmp_path / "damaged.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="not a whole safetensors"):
        Refinement.load(tmp_path / "damaged.safetensors")
    make_oracle(blocks=1).save_pretrained(tmp_path / "oracle")
    with pytest.raises(InputError, match="holds no refinement"):
        Refinement.load(tmp_path / "oracle" / "write_head.safetensors")
