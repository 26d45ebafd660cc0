"""Probabilities over large vocabularies that add up to 1."""

import torch
from jaxtyping import Float
from torch import Tensor

_SUMMED = 2048


def log_probabilities(logits: Float[Tensor, "*row vocab"]) -> Float[Tensor, "*row vocab"]:
    """``logits.log_softmax(-1)`` in float32, so that the probabilities add up to 1 within rounding.

    Over 256,000 tokens those of torch add up to 1 only within some hundred thousandths. An entropy or a divergence,
    which weighs large numbers by them, is then off by a percent. Here the sum is taken in pieces and divided out.

    Args:
        logits: of any precision.

    Example:
        >>> log_probabilities(torch.zeros(1, 4)).exp()
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    log_p = torch.log_softmax(logits.float(), -1)
    pieces = log_p.split(_SUMMED, -1)
    return log_p - torch.stack([piece.exp().sum(-1, keepdim=True) for piece in pieces]).sum(0).log()
