"""Probabilities over large vocabularies, beside float64."""

import pytest
import torch

from tests import zoo
from tests.attribution.reference import leave_out
from tl_nla.attribution import skip_effects
from tl_nla.attribution.components import as_component
from tl_nla.metrics.probabilities import log_probabilities

VOCAB = 256_000


@pytest.fixture(scope="module")
def logits():
    return 2 * torch.randn(2, VOCAB, generator=torch.Generator().manual_seed(0))


def test_they_add_up_to_one(logits):
    log_p = log_probabilities(logits)
    torch.testing.assert_close(log_p.double(), logits.double().log_softmax(-1), atol=3e-6, rtol=0)
    assert (log_p.double().exp().sum(-1) - 1).abs().max() < 2e-6


def test_a_small_divergence_of_a_large_vocabulary_is_exact():
    """torch's softmax adds up to 1 within some 1e-5 only; a change that all logits share would show in it."""
    plain = zoo.hf_model("llama", vocab_size=VOCAB, num_hidden_layers=1)
    with torch.no_grad():
        plain.model.layers[0].mlp.down_proj.weight.mul_(0.01)
        plain.lm_head.weight.mul_(4.0).add_(2.0)
    model, tokens = zoo.bridge(plain, with_tokenizer=False), zoo.tokens(1, 3)
    mlp = as_component("blocks.0.mlp", model)
    found = skip_effects(model, tokens, [mlp], positions=[-1]).kl[0, 0, -1].item()
    with torch.no_grad():
        clean, left = model(tokens)[0, -1].double(), leave_out(model, tokens, mlp, -1)[0, -1].double()
    p, q = clean.log_softmax(-1), left.log_softmax(-1)
    wanted = float((p.exp() * (p - q)).sum())
    assert wanted < 1e-2
    assert found == pytest.approx(wanted, rel=1e-3)
