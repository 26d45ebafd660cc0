"""Leaving components out at some positions for the cost of about one forward pass.

A changed copy of a position is run as one more token. It has the position embedding of its position, and sees the clean
keys and values before that position, and itself. The copies of all components go through a block together. The clean
keys and values come from the cache that the model filled in the clean run. Where it fills none, the clean tokens go
through the block once more, in front of the copies.

Every run proves that the model permits this. An unchanged copy of each position, behind all changed ones, must end as
that position did. Clean tokens that are run again must give what they gave in the clean run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.attribution.beside_block import Beside, NotBesideError
from tl_nla.attribution.clean_run import CleanRun
from tl_nla.attribution.replay import Edit, Start
from tl_nla.model.rounding import same_state

_SCORES = 2**22
"""Attention scores of copies that run together."""
_FEWEST, _CALL = 16, 768
_GROUP = 64
"""Copies that have scores for each other: wasted, so that large numbers of copies are rows of a batch."""


@dataclass(frozen=True)
class Copy:
    """One copy of a position.

    Attributes:
        layer: the first block that it runs through.
        state: the residual stream that enters this block.
        edits: what is changed inside of it; they must hold for any one position (no replacements).
        position: the column that it is a copy of.
    """

    layer: int
    state: Float[Tensor, "batch d_model"]
    edits: tuple[Edit, ...]
    position: int

    @classmethod
    def of(cls, clean: CleanRun, start: Start, places: Sequence[int]) -> list["Copy"]:
        """Copies of some columns of a start, by their places among the columns that the run was kept at."""
        states = start.residual[:, list(places)].unbind(1)
        return [cls(start.layer, state, start.edits, clean.places[place])
                for state, place in zip(states, places, strict=True)]  # fmt: skip


def copies_at_once(clean: CleanRun, heads: int) -> int:
    """How many copies run together: about as many as there are clean keys, and no more scores than memory permits."""
    scores, length = _SCORES / (clean.batch * max(1, heads)), clean.length
    if _rows_permitted(clean):
        return max(_FEWEST, min(int(scores / (length + _GROUP)), max(_CALL, length)))
    permitted = int((scores + length**2 / 4) ** 0.5 - length / 2)
    # Every copy has a score for every other one, which is wasted; every call of a block has a price of its own.
    return max(_FEWEST, min(permitted, max(_CALL // 2, length)))


def run_beside(clean: CleanRun, copies: Sequence[Copy], cached: bool = True) -> Float[Tensor, "copy batch d_model"]:
    """Last residual states of changed copies, each seeing the clean past and itself.

    Args:
        clean: the clean run.
        copies: what is changed, and where.
        cached: take the clean keys and values from the run, rather than run the clean tokens again.

    Returns:
        The state behind the last block of each copy.

    Raises:
        NotBesideError: when clean tokens or unchanged copies do not come out as they did.
    """
    if cached and not clean.keys:
        raise NotBesideError("its blocks gave no cache their keys and values")
    if not cached and clean.columns is not None:
        raise NotBesideError("the clean tokens were not kept")
    if cached and _rows_permitted(clean):
        try:
            return _run(clean, copies, cached, _GROUP)
        except NotBesideError:
            clean.rows_of_copies = False
    return _run(clean, copies, cached, 0)


def _rows_permitted(clean: CleanRun) -> bool:
    """Whether copies may be rows of a batch, as far as is known."""
    return clean.rows_of_copies and clean.batch == 1 and bool(clean.keys)


def _run(clean: CleanRun, copies: Sequence[Copy], cached: bool, group: int) -> Float[Tensor, "copy batch d_model"]:
    positions = sorted({copy.position for copy in copies})
    places = [clean.places.index(position) for position in positions]
    born: list[list[int]] = [[] for _ in range(len(clean.calls) + 1)]
    for number, copy in enumerate(copies):
        born[copy.layer].append(number)
    begin = min(copy.layer for copy in copies)
    begin = min(begin, len(clean.calls) - 1)  # before its first change a copy is the clean run
    running, at = list[int](), list[int]()
    changed = clean.inputs[begin][:, :0]
    unchanged, length, taken = clean.inputs[begin][:, places], positions[-1] + 1, dict[Any, Tensor]()
    with torch.no_grad():
        for layer, call in enumerate(clean.calls[begin:], begin):
            like = clean.inputs[layer]
            edits = {len(running) + row: copies[number].edits for row, number in enumerate(born[layer])
                     if copies[number].edits}  # fmt: skip
            running += born[layer]
            at += [copies[number].position for number in born[layer]]
            own = torch.cat([changed.to(like), *_states(copies, born[layer], like), unchanged.to(like)], 1)
            keys = clean.keys.get(layer) if cached else None
            beside = Beside(clean.length, length, (*at, *positions), keys, group, taken)
            out = beside.run(clean, call, own if cached else torch.cat([like[:, :length], own], 1), edits)
            if not cached:
                _check(out[:, :length], clean.inputs[layer + 1][:, :length], clean.valid[:, :length], 1)
                out = out[:, length:]
            changed, unchanged = out[:, : len(running)], out[:, len(running) :]
    last = clean.inputs[-1]
    _check(unchanged, last[:, places], clean.valid[:, places], len(clean.calls) - begin)
    changed = torch.cat([changed.to(last), *_states(copies, born[-1], last)], 1)
    back = torch.empty(len(copies), dtype=torch.long)
    back[torch.tensor([*running, *born[-1]], dtype=torch.long)] = torch.arange(len(copies))
    return changed.transpose(0, 1)[back.to(last.device)]


def _states(copies: Sequence[Copy], numbers: Sequence[int], like: Tensor) -> list[Tensor]:
    """The states of some copies side by side, ``[batch, copy, d_model]``; nothing for none."""
    return [torch.stack([copies[number].state for number in numbers], 1).to(like)] if numbers else []


def _check(found: Tensor, known: Tensor, valid: Tensor, blocks: int) -> None:
    keep = valid.to(found.device)
    # Roundings of several blocks add up like random steps.
    if bool(keep.any()) and not same_state(found[keep], known.to(found.device)[keep], blocks**0.5):
        raise NotBesideError("copies beside the clean tokens do not come out as in the clean run")
