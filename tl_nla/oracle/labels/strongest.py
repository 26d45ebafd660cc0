"""The strongest tokens of many writes, the unembedding read piece by piece: no copy of it, no row of all logits."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.model.processor import MATRIX_UNIT, VECTOR_UNIT, processor_units
from tl_nla.model.rounding import SUMMATION, unmixed

if TYPE_CHECKING:
    from tl_nla.oracle.labels.effects import Lens

_TOKENS, _ROWS = 2**15, 256
"""Tokens and writes whose products are looked at together."""
_WIDE = 4096
"""Tokens from which on coarse products pay where the unembedding is in float32."""
_FEWEST, _BLOCK, _SHORT = 32, 16, 4
_PARTIAL = 64
"""``topk`` on a processor is twice as fast on rows of so many times what is looked for, or more."""
_LISTED, _LISTED_ROWS = 4, 64
"""Candidates for each word wanted where products are coarse, and writes whose candidates are looked at together."""

_Pieces = list[tuple[Tensor, Tensor]]


def strongest(
    lens: "Lens", writes: Float[Tensor, "n d_model"], named: Int[Tensor, " m"], group: Int[Tensor, " m"], top_k: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The tokens that each write adds most to, and those that it takes most from, one a word.

    An unembedding in bfloat16 is multiplied in bfloat16 first, and one in float32 where the processor has units for
    bfloat16. Candidates are then multiplied in float32. A write whose other tokens may come within the rounding of the
    first products is looked at in float32 as a whole.

    Args:
        lens: the linear read-out.
        writes: divided by the final norm's scale.
        named: ids of the tokens that may be named.
        group: which word each of them is.
        top_k: how many.

    Returns:
        Twice numbers among ``named`` and values above the vocabulary's mean, the second ones with their sign turned;
        -1 and 0 where there are fewer.
    """
    asked = _Asked(lens, lens.read(writes), named.to(lens.weight.device), group.to(lens.weight.device), top_k)
    pieces = _best(asked)
    ends = {largest: _end(asked, pieces[largest], largest) for largest in (True, False)}
    unsure = torch.cat([rows for _, _, rows in ends.values()]).unique()
    for some in unsure.split(_FEWEST):
        part = lens.logits(writes[some], named)
        for largest, (words, values, _) in ends.items():
            words[some], values[some] = top_words(part, asked.group, top_k, 0.0, largest, 4 * top_k)
    return ends[True][:2], ends[False][:2]


@dataclass(frozen=True)
class _Asked:
    """What is looked for: ``read`` are the writes as the unembedding is multiplied with them."""

    lens: "Lens"
    read: Float[Tensor, "n d_model"]
    named: Int[Tensor, " m"]
    group: Int[Tensor, " m"]
    top_k: int

    @property
    def coarse(self) -> bool:
        """Whether the first products round: float16 might overflow, so it is not among them."""
        weight = self.lens.weight
        wide = weight.dtype == torch.float32 and len(self.named) >= _WIDE and weight.device.type == "cpu"
        return weight.dtype == torch.bfloat16 or (wide and _has_half_units())

    @property
    def mean(self) -> Float[Tensor, "n 1"]:
        """What every value is above, by row."""
        return torch.zeros_like(self.read[:, :1]) if self.lens.mean is None else (self.read @ self.lens.mean)[:, None]

    def slack(self, values: Float[Tensor, " n"]) -> Any:
        """How far the first products may be from exact ones, by row, at products of this size."""
        if not self.coarse:
            return 0.0
        step = torch.finfo(torch.bfloat16).eps
        size = self.read.norm(dim=-1)
        lost = (self.read - self.read.to(torch.bfloat16).float()).norm(dim=-1)
        of_weight = self.lens.roundings[self.named].max() * (size + lost)
        return (lost + SUMMATION * size) * self.lens.lengths[self.named].max() + of_weight + step * values.abs()

    def exact(self, numbers: Int[Tensor, "n c"], rows: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n c"]:
        """Products of each row with tokens of its own, float32; of all rows, or of some."""
        found, read = [], self.read if rows is None else self.read[rows]
        for part, own in zip(read.split(_LISTED_ROWS), numbers.split(_LISTED_ROWS), strict=True):
            weight = self.lens.weight.T.index_select(0, self.named[own].flatten()).float()  # a copy in any case
            # A third of the time of a product of matrices with one column each.
            found.append(weight.unflatten(0, (len(own), -1)).mul_(part[:, None]).sum(-1))
        return torch.cat(found)


@lru_cache(maxsize=1)
def _has_half_units() -> bool:
    """Whether products in bfloat16 are faster than those in float32, as they are where a processor has units for it."""
    return bool({MATRIX_UNIT, VECTOR_UNIT} & set(processor_units()))


def _best(asked: _Asked) -> dict[bool, _Pieces]:
    """Both ends of each piece of the vocabulary, which is read once for all rows."""
    best: dict[bool, _Pieces] = {True: [], False: []}
    size = min((4 if asked.coarse else 2) * asked.top_k, len(asked.named))
    read = asked.read.to(torch.bfloat16) if asked.coarse else asked.read
    with unmixed(read):
        for first in range(0, len(asked.named), _TOKENS):
            weight = asked.lens.weight.T.index_select(0, asked.named[first : first + _TOKENS]).to(read.dtype)
            kept: dict[bool, _Pieces] = {True: [], False: []}
            for rows in read.split(_ROWS):
                part = rows @ weight.T
                for largest, parts in kept.items():
                    values, places = _topk(part, min(size, len(weight)), largest)
                    parts.append((values.float(), places))
            for largest, parts in kept.items():
                values, places = (torch.cat(column) for column in zip(*parts, strict=True))
                best[largest].append((values, places + first))
    return best


def _end(asked: _Asked, pieces: _Pieces, largest: bool) -> tuple[Tensor, Tensor, Int[Tensor, " rows"]]:
    """One end of all rows from the best of each piece, and the rows in which a word may be missing."""
    sign = 1.0 if largest else -1.0
    values, numbers = torch.cat([own for own, _ in pieces], 1) * sign, torch.cat([own for _, own in pieces], 1)
    values, order = values.sort(dim=1, descending=True, stable=True)
    numbers = numbers.gather(1, order)
    # What a piece did not keep lies below the last that it kept.
    cut = torch.stack([own[:, -1] * sign for own, _ in pieces], 1).amax(1)
    with unmixed(values):
        mean = asked.mean * sign
        if not asked.coarse:
            words, found, _ = _one_a_word(values - mean, numbers, asked.group, asked.top_k, 0.0)
            return words, found, torch.nonzero(cut - mean[:, 0] > found[:, -1]).flatten()
        listed = min(_LISTED * asked.top_k, values.shape[1])
        below = cut if listed == values.shape[1] else torch.maximum(cut, values[:, listed])
        words, found = _rated(asked, numbers[:, :listed], mean, sign)
        unsure = torch.nonzero(_reach(asked, below) - mean[:, 0] > found[:, -1]).flatten()
        if listed < values.shape[1] and len(unsure):  # all that was kept of these rows, before the whole vocabulary
            words[unsure], found[unsure] = _rated(asked, numbers[unsure], mean[unsure], sign, unsure)
            missing = (_reach(asked, cut) - mean[:, 0])[unsure] > found[unsure, -1]
            unsure = unsure[missing]
    return words, found, unsure


def _reach(asked: _Asked, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """How large exact products may be whose first ones are at most so large, by row."""
    return values + asked.slack(values)


def _rated(
    asked: _Asked, numbers: Int[Tensor, "n c"], mean: Float[Tensor, "n 1"], sign: float,
    rows: Int[Tensor, " n"] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The best words among candidates of each row, by exact products."""
    values, order = (asked.exact(numbers, rows) * sign).sort(dim=1, descending=True, stable=True)
    words, found, _ = _one_a_word(values - mean, numbers.gather(1, order), asked.group, asked.top_k, 0.0)
    return words, found


def _one_a_word(
    values: Float[Tensor, "n m"], numbers: Int[Tensor, "n m"], group: Tensor, top_k: int, floor: float
) -> tuple[Tensor, Tensor, Int[Tensor, " n"]]:
    """The first ``top_k`` of falling values above a floor, one a word; and how many there are."""
    words = group[numbers]
    repeated = (words[:, :, None] == words[:, None, :]).tril(-1).any(-1)
    usable = ~repeated & (values > floor)
    order = (~usable).long().argsort(dim=1, stable=True)[:, :top_k]
    keep = usable.gather(1, order)
    short = (0, top_k - order.shape[1])
    found = torch.nn.functional.pad(numbers.gather(1, order).masked_fill(~keep, -1), short, value=-1)
    kept = torch.nn.functional.pad(values.gather(1, order).masked_fill(~keep, 0.0), short)
    return found, kept, usable.sum(1)


def top_words(
    values: Tensor, group: Tensor, top_k: int, floor: float, largest: bool = True, size: int = 0
) -> tuple[Tensor, Tensor]:
    """Columns and values of the largest values above ``floor``, one a word; -1 and 0 where there are fewer.

    ``group`` is the word of each column. With ``largest`` false the same of the values with their sign turned.
    ``size`` is how many candidates are looked at first, twice ``top_k`` when 0.
    """
    width = values.shape[1]
    size = min(width, size or 2 * top_k)
    found, ids = _topk(values, size, largest)
    found = found if largest else -found
    top_ids, top_values, usable = _one_a_word(found, ids, group, top_k, floor)
    # A row with too few words needs more candidates, unless its last candidate is already below the floor.
    poor = torch.nonzero((usable < top_k) & (found[:, -1] > floor)).flatten()
    if size < width and len(poor):
        top_ids[poor], top_values[poor] = top_words(values[poor], group, top_k, floor, largest, 4 * size)
    return top_ids, top_values


def _topk(values: Tensor, size: int, largest: bool) -> tuple[Tensor, Tensor]:
    """``values.topk(size, 1, largest)`` by block maxima: what is looked for lies in the blocks with the largest maxima.

    A block is every ``count``-th column, so that maxima are taken over whole rows of columns at once.
    """
    width = values.shape[1]
    block = min(_BLOCK, width // (_PARTIAL * size))
    if block < _SHORT:
        return values.topk(size, 1, largest)
    count = width // block
    whole = count * block
    blocks = values[:, :whole].unflatten(1, (block, count))
    chosen = (blocks.amax(1) if largest else blocks.amin(1)).topk(size, 1, largest).indices
    inside = (chosen[:, :, None] + count * torch.arange(block, device=values.device)).flatten(1)
    tail = torch.arange(whole, width, device=values.device).expand(len(values), -1)
    columns = torch.cat([inside, tail], 1)
    found, place = values.gather(1, columns).topk(size, 1, largest)
    return found, columns.gather(1, place)
