"""Where the attention of heads goes, added up over queries: one row of numbers a head, whatever the text's length."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NEAR = 15
"""Sources at most this many tokens back are near."""
OFFSETS = 17
"""Distances that are told one by one, from 0 on."""
NAMES = ("queries", "sink", "itself", "previous", "near", "far", "delimiter", "delimiter_chance", "unexplained",
         "structure", "peak", "beside")  # fmt: skip
"""What is added up, see :func:`attention_sums`; the sums at the distances 0 to ``OFFSETS - 1`` follow."""
FIRST_QUERY = 2
"""The first query that counts: before it, the token before is also the first one of the text."""


@dataclass(frozen=True)
class Attention:
    """Mean shares of a head's attention, each of the whole.

    Attributes:
        sink: on the text's first token.
        itself: on the position itself.
        previous: on the token before.
        near: on tokens 2 to ``NEAR`` back.
        far: on tokens further back.
        delimiter: on earlier tokens without letters or digits; the first token is none.
        delimiter_chance: the same if attention were spread evenly.
        positional: share of the pattern's structure that other texts have at the same positions (the sink aside).
        peak: how far the pattern that all texts share is from an even spread, from 0 to 1 (the sink aside).
        offsets: on each distance back, from 0 on.
    """

    sink: float
    itself: float
    previous: float
    near: float
    far: float
    delimiter: float
    delimiter_chance: float
    positional: float
    peak: float
    offsets: tuple[float, ...]

    @classmethod
    def of(cls, sums: Sequence[float]) -> "Attention":
        """From the sums of a head."""
        known = dict(zip(NAMES, sums, strict=False))
        queries = max(known["queries"], 1.0)
        sink, itself, previous, near, far, marks, chance = (known[name] / queries for name in NAMES[1:8])
        structure = known["structure"]
        positional = 1 - known["unexplained"] / structure if structure > 0 else 0.0
        peak = known["peak"] / known["beside"] if known["beside"] > 0 else 0.0
        offsets = tuple(value / queries for value in sums[len(NAMES) :])
        return cls(sink, itself, previous, near, far, marks, chance, positional, peak, offsets)


def attention_sums(
    pattern: Float[Tensor, "batch head query pos"], real: Bool[Tensor, "batch pos"],
    delimiter: Bool[Tensor, "batch pos"],
) -> Float[Tensor, "head sum"]:  # fmt: skip
    """Add up the attention of every head over all queries from the third token on.

    The last four tell how far positions alone explain the pattern, the first token's column left aside. ``structure``
    is the squared distance of a text's pattern from an even spread. ``unexplained`` is that from the mean pattern of
    the other texts at the same positions. ``peak`` is half the absolute distance of the mean pattern from an even
    spread, ``beside`` its mass.

    Args:
        pattern: attention probabilities.
        real: false at padding, which is on the right.
        delimiter: tokens without letters or digits.

    Returns:
        The sums by ``NAMES``, then those at each distance.
    """
    length, device = pattern.shape[-1], pattern.device
    columns = torch.arange(length, device=device)
    back = columns[:, None] - columns[None, :]
    query = real & (columns >= FIRST_QUERY)
    weights = pattern.float() * query[:, None, :, None]
    rest = weights.clone()
    rest[..., 0] = 0.0
    by_pair = rest.sum(0)
    marks = (delimiter & (columns > 0))[:, None, :] & (back >= 1)
    even = 1.0 / (columns + 1.0)
    chance = ((marks.float() * even[:, None]).sum(-1) * query).sum()
    told = [
        query.sum().expand(pattern.shape[1]).float(), weights[..., 0].sum((0, 2)),
        *((by_pair * (near & far)).sum((1, 2)) for near, far in (
            (back >= 0, back <= 0), (back >= 1, back <= 1), (back >= 2, back <= NEAR), (back > NEAR, back > NEAR))),
        torch.einsum("bhqk,bqk->h", rest, marks.float()), chance.expand(pattern.shape[1]),
        *_positional(rest, query, back),
        *(by_pair.diagonal(-distance, 1, 2).sum(-1) if distance < length else torch.zeros_like(by_pair[:, 0, 0])
          for distance in range(OFFSETS)),
    ]  # fmt: skip
    return torch.stack(told, 1)


def _positional(rest: Tensor, query: Tensor, back: Tensor) -> list[Tensor]:
    """Unexplained, structure, peak and mass at queries that every text of the batch has."""
    batch, heads = rest.shape[:2]
    shared = query.all(0)
    if batch < 2 or not bool(shared.any()):
        return [rest.new_zeros(heads) for _ in range(4)]
    own, back = rest[:, :, shared], back[shared]
    visible = (back >= 0) & (torch.arange(back.shape[1], device=back.device) > 0)
    mean = own.mean(0)
    mass = mean.sum(-1, keepdim=True)
    even = mass * visible / visible.sum(-1, keepdim=True).clamp_min(1)
    others = (own.sum(0) - own) / (batch - 1)
    return [(own - others).square().sum((0, 2, 3)), (own - even).square().sum((0, 2, 3)),
            (mean - even).abs().sum((1, 2)) * batch / 2, mass.sum((1, 2)) * batch]  # fmt: skip


def is_delimiter(texts: Sequence[str]) -> Bool[Tensor, " vocab"]:
    """Which tokens hold neither letters nor digits: punctuation, line breaks, spaces."""
    return torch.tensor([bool(text) and not any(sign.isalnum() for sign in text) for text in texts])


def ids_of(mask: Bool[Tensor, " vocab"], tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
    """Which tokens a mask over the vocabulary holds for."""
    return mask.to(tokens.device)[tokens]
