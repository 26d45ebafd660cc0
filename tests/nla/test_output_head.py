"""The output head sees a contiguous input, and nothing of the model changes."""

import pytest
import torch

from tests import zoo
from tl_nla.nla.output_head import contiguous_head


def test_the_head_gets_a_contiguous_input_and_the_hook_comes_off():
    model = zoo.hf_model("llama").eval()
    seen = []
    watch = model.get_output_embeddings().register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    ids = torch.arange(12).view(3, 4)
    plain = model(input_ids=ids, logits_to_keep=2).logits
    with contiguous_head(model):
        found = model(input_ids=ids, logits_to_keep=2).logits
    watch.remove()
    assert not seen[0].is_contiguous(), "if transformers does this by itself, the hook can go"
    assert seen[1].is_contiguous()
    assert torch.allclose(found, plain, atol=1e-6)
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_the_hook_comes_off_after_an_error():
    model = zoo.hf_model("llama")
    with pytest.raises(RuntimeError), contiguous_head(model):
        raise RuntimeError
    assert not model.get_output_embeddings()._forward_pre_hooks
