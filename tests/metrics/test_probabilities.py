"""Probabilities over large vocabularies, beside float64."""

import pytest
import torch

from tl_nla.metrics.probabilities import log_probabilities

VOCAB = 256_000


@pytest.fixture(scope="module")
def logits():
    return 2 * torch.randn(2, VOCAB, generator=torch.Generator().manual_seed(0))


def test_they_add_up_to_one(logits):
    log_p = log_probabilities(logits)
    torch.testing.assert_close(log_p.double(), logits.double().log_softmax(-1), atol=3e-6, rtol=0)
    assert (log_p.double().exp().sum(-1) - 1).abs().max() < 2e-6


def test_a_small_divergence_of_a_large_vocabulary_is_exact(logits):
    from tl_nla.attribution.skip_measures import _compare, _Old

    other = logits + 5 + 0.05 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    old = _Old.of(logits[:1, None], torch.zeros(1, 1, dtype=torch.long))
    found = _compare(old, lambda: other[None, :1, None].clone(), 0)["kl"].item()
    p, q = (value[0].double().log_softmax(-1) for value in (logits, other))
    assert found == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-3)
