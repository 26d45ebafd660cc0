"""The strongest tokens of many writes, the unembedding read piece by piece: no copy of it, no row of all logits."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.model.rounding import unmixed

if TYPE_CHECKING:
    from tl_nla.oracle.labels.effects import Lens

_TOKENS, _ROWS = 4096, 512
"""Tokens and writes whose products are looked at together: few enough to stay in the processor's cache."""
_FEWEST, _BLOCK = 32, 16


def strongest(
    lens: "Lens", writes: Float[Tensor, "n d_model"], named: Int[Tensor, " m"], group: Int[Tensor, " m"], top_k: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The tokens that each write adds most to, and those that it takes most from, one a word.

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
    read, group = lens.read(writes), group.to(lens.weight.device)
    pieces, mean = _best(lens, read, named, min(2 * top_k, len(named)))

    def settled(largest: bool) -> tuple[Tensor, Tensor]:
        words, values, unsure = _end(pieces[largest], mean, group, top_k, largest)
        for some in unsure.split(_FEWEST):
            part = lens.logits(writes[some], named)
            words[some], values[some] = top_words(part, group, top_k, 0.0, largest, 4 * top_k)
        return words, values

    return settled(True), settled(False)


def _best(
    lens: "Lens", read: Float[Tensor, "n d_model"], named: Int[Tensor, " m"], size: int
) -> tuple[dict[bool, list[tuple[Tensor, Tensor]]], Any]:
    """Both ends of each piece of the vocabulary, which is read once for all rows; and what every value is above."""
    best: dict[bool, list[tuple[Tensor, Tensor]]] = {True: [], False: []}
    with unmixed(read):
        for first in range(0, len(named), _TOKENS):
            weight = lens.weight.T[named[first : first + _TOKENS].to(lens.weight.device)].float()
            kept: dict[bool, list[tuple[Tensor, Tensor]]] = {True: [], False: []}
            for rows in read.split(_ROWS):
                part = rows @ weight.T
                for largest, parts in kept.items():
                    parts.append(_topk(part, min(size, len(weight)), largest))
            for largest, parts in kept.items():
                values, places = (torch.cat(column) for column in zip(*parts, strict=True))
                best[largest].append((values, places + first))
        mean = 0.0 if lens.mean is None else (read @ lens.mean)[:, None]
    return best, mean


def _end(
    pieces: list[tuple[Tensor, Tensor]], mean: Any, group: Int[Tensor, " m"], top_k: int, largest: bool
) -> tuple[Tensor, Tensor, Int[Tensor, " rows"]]:
    """One end of all rows from the best of each piece, and the rows in which a word may be missing."""
    sign = 1.0 if largest else -1.0
    values, numbers = torch.cat([own for own, _ in pieces], 1), torch.cat([own for _, own in pieces], 1)
    values, order = ((values - mean) * sign).sort(dim=1, descending=True, stable=True)
    numbers = numbers.gather(1, order)
    words, found, _ = _one_a_word(values, numbers, group, top_k, 0.0)
    # What a piece did not keep lies below the last that it kept.
    cut = torch.stack([((own - mean) * sign)[:, -1] for own, _ in pieces], 1).amax(1)
    return words, found, torch.nonzero(cut > found[:, -1]).flatten()


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
    if width < 4 * size * _BLOCK:
        return values.topk(size, 1, largest)
    count = width // _BLOCK
    whole = count * _BLOCK
    blocks = values[:, :whole].unflatten(1, (_BLOCK, count))
    chosen = (blocks.amax(1) if largest else blocks.amin(1)).topk(size, 1, largest).indices
    inside = (chosen[:, :, None] + count * torch.arange(_BLOCK, device=values.device)).flatten(1)
    tail = torch.arange(whole, width, device=values.device).expand(len(values), -1)
    columns = torch.cat([inside, tail], 1)
    found, place = values.gather(1, columns).topk(size, 1, largest)
    return found, columns.gather(1, place)
