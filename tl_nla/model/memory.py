"""How much memory a forward pass takes beside the weights, and how many texts fit into one."""

from collections.abc import Sequence
from typing import Any

import torch

PASS_BUDGET = 2**28
"""Bytes that the activations of one pass may take by default: 256 MiB."""
_SCORE = 12
"""Bytes of an attention score while eager attention is computed: scores, mask added, softmax (in float32)."""
_STREAMS = 12
"""Tensors of the residual stream's width that are alive at once."""
_HIDDEN = 3
"""Tensors of the MLP's width that are alive at once."""


def pass_bytes(model: Any, length: int) -> int:
    """Bytes that one text takes in a forward pass without gradients and logits, rather too many than too few.

    Args:
        model: the TransformerLens model; its configuration and precision are looked at.
        length: tokens of the text.
    """
    cfg = model.cfg
    heads, width, layers = (int(getattr(cfg, name, 1) or 1) for name in ("n_heads", "d_model", "n_layers"))
    hidden = int(getattr(cfg, "d_mlp", None) or 4 * width)
    groups = int(getattr(cfg, "n_key_value_heads", None) or heads)
    cached = 2 * layers * groups * int(getattr(cfg, "d_head", None) or width // heads)
    size = next(iter(model.parameters()), torch.zeros(())).element_size()
    return length * (_SCORE * heads * length + size * (_STREAMS * width + _HIDDEN * hidden + cached))


def fitting_batches(
    model: Any, lengths: Sequence[int], most: int, budget: int = PASS_BUDGET, wanted: Sequence[int] | None = None,
    logits: int = 2**25,
) -> list[list[int]]:  # fmt: skip
    """Numbers of texts that go through the model together: texts of like length, within a memory budget.

    Args:
        model: the TransformerLens model.
        lengths: tokens of each text.
        most: texts a pass at most, however short.
        budget: bytes that the activations of a pass may take; a text that takes more goes alone.
        wanted: positions of each text whose logits are wanted; none when ``None``.
        logits: logits of one pass at most.

    Returns:
        The batches, shortest texts first; each text is in one.
    """
    vocab = int(model.cfg.d_vocab)
    batches: list[list[int]] = []
    unembedded = 0
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        own = 0 if wanted is None else wanted[row] * vocab
        size = (len(batches[-1]) + 1) * pass_bytes(model, lengths[row]) if batches else 0
        if not batches or len(batches[-1]) == most or size > budget or unembedded + own > logits:
            batches.append([])
            unembedded = 0
        batches[-1].append(row)
        unembedded += own
    return batches
