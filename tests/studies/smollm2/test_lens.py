"""Lenses of the study: the Jacobian at the last token is what a small change of the state does there."""

import pytest
import torch

from docs.studies.smollm2.lens import Lenses, at_last, carried_by_own, fitted_lenses
from tests import zoo
from tl_nla.errors import InputError

SITES = ["blocks.1.attn.head.0", "blocks.0.mlp"]


@pytest.fixture(scope="module")
def model():
    return zoo.hf_model("llama").eval().requires_grad_(False)


@torch.no_grad()
def moved(model, ids, module, change):
    """How far the last state of the last token moves when a module's output there is changed a little."""
    last = []
    for sign in (1, -1):

        def added(_module, _args, output, sign=sign):
            return torch.cat([output[:, :-1], output[:, -1:] + sign * change], 1)

        hooks = [module.register_forward_hook(added),
                 model.model.norm.register_forward_pre_hook(lambda _, args: last.append(args[0][0, -1]))]  # fmt: skip
        model(ids)
        for hook in hooks:
            hook.remove()
    return (last[0] - last[1]) / 2


def test_writes_are_carried_as_the_model_carries_a_small_change(model):
    ids = torch.tensor([[1, 7, 3, 9, 4]])
    change = torch.randn(2, model.config.hidden_size, generator=torch.Generator().manual_seed(0)) * 1e-2
    expected = [moved(model, ids, model.model.layers[1].self_attn.o_proj, change[0]),
                moved(model, ids, model.model.layers[0].mlp, change[1])]  # fmt: skip
    found = carried_by_own(model, [ids], SITES, change[None])[0]
    torch.testing.assert_close(found, torch.stack(expected), rtol=5e-3, atol=1e-5)
    assert not torch.allclose(found, change, rtol=0.1)  # more than the plain unembedding's identity
    mid, post = at_last(model, ids)
    assert len(mid) == len(post) == model.config.num_hidden_layers
    torch.testing.assert_close(post[-1], torch.eye(model.config.hidden_size))


def test_lenses_are_kept_and_asked_for(tmp_path):
    with pytest.raises(InputError, match=r"fit them: python -m docs.studies.smollm2.lens"):
        fitted_lenses(tmp_path)
    Lenses(*torch.eye(3).expand(3, 2, 3, 3)).save(tmp_path / "lenses.safetensors")
    torch.testing.assert_close(fitted_lenses(tmp_path).mid[1], torch.eye(3))
