"""Legibility: how expected the words are to a model that never saw an activation."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.model.text import TextEncoder


@torch.no_grad()
def token_losses(model: Any, tokenizer: Any, texts: Sequence[str], batch_size: int = 128) -> Float[Tensor, " n"]:
    """Mean negative log-likelihood of each text's tokens under a clean language model, nats a token.

    Args:
        model: a TransformerLens model or a Hugging Face causal language model; longer texts are cut to its context.
        tokenizer: its tokenizer; texts start behind a begin token where the model has one.
        texts: what is read.
        batch_size: texts a forward pass.

    Returns:
        One loss a text; 0 for a text of fewer than two tokens.
    """
    config = getattr(model, "cfg", None) or model.config
    limit = int(getattr(config, "n_ctx", 0) or getattr(config, "max_position_embeddings", 0) or 10**9)
    encode = TextEncoder(tokenizer, model)
    encoded = [encode(text).cut(limit).ids for text in texts]
    device = next(model.parameters()).device
    losses = torch.zeros(len(texts), dtype=torch.float64)
    order = [row for row in sorted(range(len(texts)), key=lambda row: len(encoded[row])) if len(encoded[row]) > 1]
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = max(len(encoded[row]) for row in rows)
        ids = torch.tensor([encoded[row] + [0] * (width - len(encoded[row])) for row in rows], device=device)
        output = model(ids)
        logprobs = getattr(output, "logits", output).float().log_softmax(-1)
        taken = logprobs[:, :-1].gather(-1, ids[:, 1:, None])[..., 0].double().cpu()
        for place, row in enumerate(rows):
            losses[row] = -taken[place, : len(encoded[row]) - 1].mean()
    return losses
