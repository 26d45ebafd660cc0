"""The score of a position with itself, computed from its query and key, and checked against the model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_nla.errors import InputError

# Where the query and key that enter the dot product can be seen, best first. A rotation turns both by the same angle,
# so their product on the diagonal is the same before and after it.
SOURCES: tuple[tuple[str, str], ...] = (
    ("attn.hook_rot_q", "attn.hook_rot_k"),
    ("attn.hook_q_normed", "attn.hook_k_normed"),
    ("attn.q_norm.hook_out", "attn.k_norm.hook_out"),
    ("attn.hook_q", "attn.hook_k"),
)
LAYOUTS = ("pos_head", "head_pos", "flat")
TOLERANCE = 128.0  # in units of the dtype's rounding step, relative to the largest score


@dataclass(frozen=True)
class ScoreDiagonal:
    """How one attention layer scores a position against itself: ``cap(scale * query . key)``.

    Attributes:
        query_point: hook point, without the ``blocks.i.`` prefix, where the query is taken.
        key_point: hook point where the key is taken and given back.
        layout: order of the axes at the two points, one of ``LAYOUTS``.
        heads: query heads and key heads.
        scale: factor on the dot product.
        soft_cap: ``c`` of ``c * tanh(x / c)`` on the scores (Gemma 2), or None.
    """

    query_point: str
    key_point: str
    layout: str
    heads: tuple[int, int]
    scale: float
    soft_cap: float | None

    def __call__(self, query: Tensor, key: Tensor) -> Float[Tensor, "batch head pos"]:
        """Score every position against itself from the tensors seen at the two points."""
        dots = diagonal_product(query, key, self.layout, self.heads)
        if dots is None:
            raise InputError(
                f"query {tuple(query.shape)} and key {tuple(key.shape)} do not fit the layout {self.layout}"
            )
        product = dots * self.scale
        return product if self.soft_cap is None else self.soft_cap * torch.tanh(product / self.soft_cap)


def by_head(values: Tensor, layout: str, heads: int) -> Float[Tensor, "batch pos head d_head"] | None:
    """Bring a query or key tensor to ``[batch, pos, head, d_head]``; None where the layout does not fit."""
    if layout == "flat":
        if values.ndim != 3 or values.shape[-1] % heads:
            return None
        return values.unflatten(-1, (heads, -1))
    if values.ndim != 4:
        return None
    values = values.transpose(1, 2) if layout == "head_pos" else values
    return values if values.shape[2] == heads else None


def diagonal_product(query: Tensor, key: Tensor, layout: str, heads: tuple[int, int]) -> Tensor | None:
    """Dot product of each position's query and key, heads of a group sharing their key.

    Returns:
        ``[batch, head, pos]``, or None where the layout does not fit.
    """
    q, k = by_head(query, layout, heads[0]), by_head(key, layout, heads[1])
    if q is None or k is None or q.shape[:2] != k.shape[:2]:
        return None
    k = k.repeat_interleave(heads[0] // heads[1], dim=2)
    return torch.einsum("bthd,bthd->bht", q, k)


def solve_diagonal(
    seen: dict[str, Tensor],
    scores: Float[Tensor, "batch head pos"],
    heads: tuple[int, int],
    caps: Sequence[float | None],
    valid: Bool[Tensor, "batch pos"],
) -> ScoreDiagonal | None:
    """Find the formula that reproduces the diagonal of the scores of a run that was seen.

    The scale is fitted in double precision, so it needs no knowledge of the family. That the formula then agrees with
    every score on the diagonal to rounding is what makes it trustworthy.

    Args:
        seen: tensors by hook point, without the block prefix.
        scores: the model's own scores of each position with itself.
        heads: query heads and key heads.
        caps: soft caps to try, None meaning none.
        valid: the positions that are no padding.

    Returns:
        The formula, or None when none reproduces the scores.
    """
    keep = valid[:, None].expand_as(scores) & torch.isfinite(scores) & (scores > torch.finfo(scores.dtype).min / 4)
    target = scores[keep].double()
    if not len(target):
        return None
    step = max(torch.finfo(tensor.dtype).eps for tensor in (scores, *seen.values()))
    allowed = TOLERANCE * step * (1.0 + target.abs().max().item())
    for query_point, key_point in SOURCES:
        if query_point not in seen or key_point not in seen:
            continue
        for layout in LAYOUTS:
            product = diagonal_product(seen[query_point], seen[key_point], layout, heads)
            if product is None or product.shape != scores.shape:
                continue
            for cap in caps:
                scale = _fit_scale(product[keep].double(), target, cap)
                found = ScoreDiagonal(query_point, key_point, layout, heads, scale, cap)
                error = (found(seen[query_point], seen[key_point])[keep].double() - target).abs().max().item()
                if error <= allowed:
                    return found
    return None


def _fit_scale(product: Float[Tensor, " n"], target: Float[Tensor, " n"], cap: float | None) -> float:
    if cap is not None:
        inside = target.abs() < 0.95 * cap  # near the cap the inverse loses its digits
        if not bool(inside.any()):
            return 0.0
        product, target = product[inside], cap * torch.atanh(target[inside] / cap)
    norm = product.square().sum()
    return (product @ target / norm).item() if norm > 0 else 1.0
