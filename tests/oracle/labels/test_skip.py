import pytest
import torch

from tests import zoo
from tl_nla.attribution import SkipConfig, skip_effects, skip_logits
from tl_nla.errors import InputError
from tl_nla.oracle.labels import skip_labels


def test_labels_are_those_of_the_skipped_run(llama):
    tokens = zoo.tokens()
    effects = skip_effects(llama, tokens, ["blocks.0.attn.head.1", "blocks.1.mlp"], how=SkipConfig(top_k=8))
    batch, column = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 6])
    found = skip_labels(effects, "blocks.1.mlp", batch, column)
    without = skip_logits(llama, tokens, "blocks.1.mlp")[batch, column].log_softmax(-1)
    with torch.no_grad():
        clean = llama(tokens)[batch, column].log_softmax(-1)
    torch.testing.assert_close(found.kl, (clean.exp() * (clean - without)).sum(-1), rtol=1e-3, atol=1e-5)
    assert torch.equal(found.skipped_top, without.argmax(-1))
    assert torch.equal(found.flips, clean.argmax(-1) != without.argmax(-1))
    for row in range(3):
        up, down = ([i for i in side[row].tolist() if i >= 0] for side in (found.promoted, found.suppressed))
        assert len(up) + len(down) == 8
        assert all(clean[row, i] > without[row, i] for i in up)
        assert all(clean[row, i] < without[row, i] for i in down)
    sizes = [sum(p >= limit for limit in (1e-3, 1e-2, 1e-1)) for p in found.kl.tolist()]
    assert found.size.tolist() == sizes


def test_refusals(llama):
    tokens = zoo.tokens()
    here = torch.tensor([0])
    with pytest.raises(InputError, match="no effect of"):
        skip_labels(skip_effects(llama, tokens, ["blocks.1"]), "blocks.2", here, here)
    with pytest.raises(InputError, match="all positions at once"):
        skip_labels(skip_effects(llama, tokens, ["blocks.1"], how=SkipConfig(everywhere=True)), "blocks.1", here, here)
