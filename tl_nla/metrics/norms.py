"""Vectors at a given length, and the logarithm of a length, with gradients that stay bounded however short they are.

The gradient of ``v / |v|`` grows as ``1 / |v|``: a vector of norm 1e-20 alone would decide a training step. Below the
root mean square ``SHORTEST`` values stay what they are, and the gradient is that of a vector of this size.
"""

import torch
from jaxtyping import Float
from torch import Tensor

SHORTEST = 1e-4
"""Root mean square below which gradients no longer grow."""
_SMALLEST = 1e-12


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same values in float32, or in float64 where they have it."""
    return values if values.dtype == torch.float64 else values.float()


def scale_to_norm(vectors: Float[Tensor, "*batch d_model"], norm: float) -> Float[Tensor, "*batch d_model"]:
    """Vectors at L2 norm ``norm``, computed in float32 at least; zeros stay zero.

    Args:
        vectors: in any floating dtype; squares that overflow or underflow do no harm.
        norm: L2 norm of what is returned.

    Returns:
        Vectors in float32, or float64 where they were.
    """
    found = at_least_float32(vectors)
    length = found.norm(dim=-1, keepdim=True)
    floor = _floor(found)
    usual = (length >= floor) & (length < torch.inf)
    # Two steps, so that no undefined gradient of the branch that is not taken gets through.
    scaled = found / torch.where(usual, length, 1.0) * norm
    return torch.where(usual, scaled, _unusual(found, norm, floor))


def normalise(vectors: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Scale each vector to the L2 norm √d_model; a zero vector stays zero.

    Args:
        vectors: activations or writes, in model units.

    Returns:
        Vectors of the same dtype; their mean square is 1.
    """
    return scale_to_norm(vectors, vectors.shape[-1] ** 0.5).to(vectors.dtype)


def log_norm(vectors: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
    """Natural logarithm of the L2 norm in float32 at least; that of 1e-12 for anything shorter."""
    found = at_least_float32(vectors)
    length = found.norm(dim=-1)
    floor = _floor(found)
    usual = torch.where(length >= floor, length, 1.0).log()
    short = length.detach().clamp_min(_SMALLEST).log() + (length - length.detach()) / floor
    return torch.where(length >= floor, usual, short)


def _floor(vectors: Tensor) -> float:
    return SHORTEST * float(vectors.shape[-1]) ** 0.5


def _unusual(vectors: Tensor, norm: float, floor: float) -> Tensor:
    """Very short and very long vectors at a norm: exact values, with the gradient of a straight line."""
    known = vectors.detach()
    largest = known.abs().amax(-1, keepdim=True)
    parts = known / torch.where(largest > 0, largest, 1.0)
    length = parts.norm(dim=-1, keepdim=True)
    exact = parts / torch.where(length > 0, length, 1.0) * norm
    return exact + (vectors - known) * (norm / (largest * length).clamp_min(floor))
