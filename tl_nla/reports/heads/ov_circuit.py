"""Copying as the weights show it: eigenvalues of the full OV circuit (Elhage et al. 2021).

The circuit goes from a token's embedding through the values and the out-projection of a head to the logits. Where it
copies, its eigenvalues are positive. What the layers between do is left out, so the score means most where a head reads
embeddings. The module :mod:`tl_nla.reports.heads.copying` measures the head in the model.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import FactoredMatrix

from tl_nla.model.norms import solve_norm
from tl_nla.oracle.labels import Lens

_PIECE, _ROWS = 16_384, 64


@torch.no_grad()
def read_back(model: Any, lens: Lens) -> Float[Tensor, "d_model d_model"]:
    """From what is written to the stream to the embedding of what that promotes; the same for all heads.

    Means over the vocabulary are left out on both sides. What all tokens have in common tells no token from another,
    and would give the one eigenvalue that decides the sum.
    """
    width, embedding = lens.weight.shape[0], model.W_E
    count = min(lens.weight.shape[1], len(embedding))
    found = torch.zeros(width, width, device=lens.weight.device)
    read, written = torch.zeros(2, width, device=lens.weight.device).unbind()
    for first in range(0, count, _PIECE):
        tokens = slice(first, min(first + _PIECE, count))
        rows, columns = embedding[tokens].float(), lens.weight[:, tokens].float()
        found += columns @ rows
        read, written = read + rows.sum(0), written + columns.sum(1)
    found -= torch.outer(written, read) / count
    found = found if lens.gain is None else found * lens.gain[:, None]
    return found - found.mean(0, keepdim=True) if lens.centred else found


@torch.no_grad()
def ov_scores(
    model: Any, layer: int, weight: Float[Tensor, "head width d_model"], back: Float[Tensor, "d_model d_model"]
) -> list[float | None]:
    """Sum of the eigenvalues' real parts over the sum of their sizes: 1 for pure copying, -1 for its opposite.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        layer: the layer.
        weight: out-projection of each head, see :func:`tl_nla.reports.heads.watch.layer_weight`.
        back: see :func:`read_back`.

    Returns:
        One score a head; ``None`` where the values are no matrix ``[head, d_model, width]``.
    """
    block, heads = model.blocks[layer], len(weight)
    values = getattr(block.attn, "W_V", None)
    if not isinstance(values, Tensor) or values.ndim != 3 or heads % len(values):
        return [None] * heads
    if values.shape[1:] != (weight.shape[2], weight.shape[1]):
        return [None] * heads
    own = values.float().repeat_interleave(heads // len(values), 0)
    norm = getattr(block, "ln1", None)
    if norm is not None:
        rows = model.W_E[None, :_ROWS]
        form = solve_norm(norm, rows, norm(rows))
        own = own * form.gain.to(own)[:, None]
        own = own - own.mean(1, keepdim=True) if form.centred else own
    found = FactoredMatrix(own, weight.float() @ back.to(weight)).eigenvalues
    size = found.abs().sum(-1)
    return [float(real / most) if most > 0 else None for real, most in zip(found.real.sum(-1), size, strict=True)]
