"""Leaving components out at some positions for the cost of about one forward pass.

A changed copy of a position is run as one more token. It has the position embedding of its position, and sees the clean
keys and values before that position, and itself. The copies of all components go through a block together. The clean
keys and values come from the cache that the model filled in the clean run. Where it fills none, the clean tokens go
through the block once more, in front of the copies.

Every run proves that the model permits this. An unchanged copy of each position, behind all changed ones, must end as
that position did. Clean tokens that are run again must give what they gave in the clean run.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tl_nla.attribution.clean_run import BlockCall, CleanRun, hooked
from tl_nla.attribution.replay import Edit, Start
from tl_nla.errors import InputError
from tl_nla.model.rounding import same_state

_SCORES = 2**22
"""Attention scores of copies that run together."""
_FEWEST, _CALL = 16, 384
_MASK = "attention_mask"


class NotBesideError(InputError):
    """This model's blocks cannot be run on copies beside the clean tokens."""


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
    def of(cls, clean: CleanRun, start: Start, place: int) -> "Copy":
        """The copy of one column of a start, by its place among the columns that the run was kept at."""
        return cls(start.layer, start.residual[:, place].clone(), start.edits, clean.places[place])


def copies_at_once(clean: CleanRun, heads: int) -> int:
    """How many copies run together: about as many as there are clean keys, and no more scores than memory permits."""
    scores, length = _SCORES / (clean.batch * max(1, heads)), clean.length
    permitted = int((scores + length**2 / 4) ** 0.5 - length / 2)
    # Every copy has a score for every other one, which is wasted; every call of a block has a price of its own.
    return max(_FEWEST, min(permitted, max(_CALL, length)))


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
    positions = sorted({copy.position for copy in copies})
    places = [clean.places.index(position) for position in positions]
    order = sorted(range(len(copies)), key=lambda number: copies[number].layer)
    born = [[number for number in order if copies[number].layer == layer] for layer in range(len(clean.calls) + 1)]
    running: list[int] = []
    changed = clean.inputs[0][:, :0]
    unchanged, length = clean.inputs[0][:, places], positions[-1] + 1
    with torch.no_grad():
        for layer, call in enumerate(clean.calls):
            like = clean.inputs[layer]
            new = [copies[number].state.to(like)[:, None] for number in born[layer]]
            edits = {len(running) + row: copies[number].edits for row, number in enumerate(born[layer])
                     if copies[number].edits}  # fmt: skip
            running += born[layer]
            own = torch.cat([changed.to(like), *new, unchanged.to(like)], 1)
            at = (*(copies[number].position for number in running), *positions)
            beside = _Beside(clean.length, length, at, clean.keys.get(layer) if cached else None)
            given = own if cached else torch.cat([like[:, :length], own], 1)
            out = beside.run(clean, call, given, edits)
            if not cached:
                _check(out[:, :length], clean.inputs[layer + 1][:, :length], clean.valid[:, :length], 1)
                out = out[:, length:]
            changed, unchanged = out[:, : len(running)], out[:, len(running) :]
    last = clean.inputs[-1]
    _check(unchanged, last[:, places], clean.valid[:, places], len(clean.calls))
    changed = torch.cat([changed.to(last), *(copies[number].state.to(last)[:, None] for number in born[-1])], 1)
    back = torch.empty(len(copies), dtype=torch.long)
    back[torch.tensor([*running, *born[-1]], dtype=torch.long)] = torch.arange(len(copies))
    return changed.transpose(0, 1)[back.to(last.device)]


def _check(found: Tensor, known: Tensor, valid: Tensor, blocks: int) -> None:
    keep = valid.to(found.device)
    # Roundings of several blocks add up like random steps.
    if bool(keep.any()) and not same_state(found[keep], known.to(found.device)[keep], blocks**0.5):
        raise NotBesideError("copies beside the clean tokens do not come out as in the clean run")


class _Past:
    """Stands where a block expects its cache: gives the clean keys and values, and behind them the copies' own."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.key, self.value, self.asked = key, value, 0

    def update(self, key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Both in front of what is new."""
        self.asked += 1
        return torch.cat([self.key, key], -2), torch.cat([self.value, value], -2)

    def get_seq_length(self, layer: int = 0) -> int:
        """How many clean tokens there are."""
        return self.key.shape[-2]


@dataclass(frozen=True)
class _Beside:
    """Clean tokens up to ``length`` of a run of ``whole`` tokens, then one token for each of ``places``.

    With ``keys`` the block is given the copies alone, and the clean tokens as keys and values.
    """

    whole: int
    length: int
    places: tuple[int, ...]
    keys: tuple[Tensor, Tensor] | None = None

    @property
    def _front(self) -> int:
        """How many tokens stand before the copies."""
        return self.length if self.keys is None else 0

    def run(self, clean: CleanRun, call: BlockCall, given: Tensor, edits: Mapping[int, Sequence[Edit]]) -> Tensor:
        """Run one block on clean tokens and copies, or on the copies alone."""
        args = [self._taken(value) for value in call.args]
        kwargs = {name: self._taken(value) for name, value in call.kwargs.items()}
        self._put_mask(call, args, kwargs, given)
        past = self._put_past(call, args, kwargs)
        by_point: dict[str, dict[int, Callable[[Tensor], Tensor]]] = {}
        for row, pairs in edits.items():
            for name, edit in pairs:
                by_point.setdefault(name, {})[row] = edit
        if missing := [name for name in by_point if name not in clean.points]:
            raise NotBesideError(f"the model has no hook point {missing[0]}")
        hooks = [(clean.points[name], self._edited(rows)) for name, rows in by_point.items()]
        try:
            with hooked(hooks):
                out = BlockCall(call.block, tuple(args), kwargs, call.keyword)(given, 1, 1)
        except NotBesideError:
            raise
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise NotBesideError(f"its blocks take no tokens beside the clean ones ({type(error).__name__})") from error
        if past is not None and past.asked != 1:
            raise NotBesideError("its blocks do not take their keys and values from a cache")
        return out

    def _put_past(self, call: BlockCall, args: list[Any], kwargs: dict[str, Any]) -> _Past | None:
        if self.keys is None:
            return None
        past = _Past(*(value[..., : self.length, :] for value in self.keys))
        if isinstance(call.cache, int):
            args[call.cache] = past
        elif call.cache is not None:
            kwargs[call.cache] = past
        return past

    def _edited(self, rows: Mapping[int, Callable[[Tensor], Tensor]]) -> Callable[..., Tensor]:
        def function(value: Tensor, hook: Any) -> Tensor:
            if value.ndim < 2 or value.shape[1] != self._front + len(self.places):
                raise NotBesideError(f"{hook.name} does not show one row a token")
            changed = value.clone()
            for row, edit in rows.items():
                own = slice(self._front + row, self._front + row + 1)
                changed[:, own] = edit(value[:, own])
            return changed

        return function

    def _index(self, device: torch.device) -> Tensor:
        return torch.tensor([*range(self.length), *self.places], device=device)

    def _taken(self, value: Any) -> Any:
        """An argument with one entry a token, given for clean tokens and copies; any other argument as it is."""
        if isinstance(value, tuple | list):
            return type(value)(self._taken(item) for item in value)
        if not isinstance(value, Tensor) or self.whole not in value.shape:
            return value
        if value.ndim > 3 and value.shape[-2:] == (self.whole, self.whole):
            return self._masked(value)
        axis = next(axis for axis in (1, 2, 0, *range(3, value.ndim)) if axis < value.ndim
                    and value.shape[axis] == self.whole)  # fmt: skip
        index = self._index(value.device)
        # What has its entries in the last axis belongs to keys, such as the slopes of ALiBi; the rest to queries.
        keys = value.ndim > 2 and axis == value.ndim - 1
        return value.index_select(axis, index if keys else index[self.length - self._front :])

    def _masked(self, mask: Tensor) -> Tensor:
        """The mask of the clean run, for clean tokens and copies: a copy sees what its position saw, and not others."""
        index, length = self._index(mask.device), self.length
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        taken = mask.index_select(-2, index).index_select(-1, index)
        rows = torch.arange(len(self.places), device=mask.device) + length
        own = taken[..., rows, rows].clone()
        taken[..., length:] = hidden
        taken[..., rows, rows] = own
        taken[..., rows, index[length:]] = hidden
        return taken[..., length - self._front :, :]

    def _put_mask(self, call: BlockCall, args: list[Any], kwargs: dict[str, Any], given: Tensor) -> None:
        """Give a mask to a block that was called without one, as causal blocks are when nothing is padded."""
        names = [_MASK] if _MASK in kwargs else _argument_names(call.block)
        place = names.index(_MASK) if _MASK in names else None
        if place is None:
            raise NotBesideError("its blocks take no attention mask")
        if _MASK in kwargs or place >= len(args):
            holder: Any = kwargs
            key: Any = _MASK
        else:
            holder, key = args, place
        if (holder is kwargs and kwargs.get(_MASK) is not None) or (holder is args and args[key] is not None):
            return
        size = (1, 1, self.whole, self.whole)
        causal = torch.full(size, torch.finfo(given.dtype).min, dtype=given.dtype, device=given.device).triu(1)
        holder[key] = self._masked(causal)


def _argument_names(block: nn.Module) -> list[str]:
    """Names of the arguments behind the residual stream; a bridge's block takes any, its original component knows."""
    original = getattr(block, "original_component", None) or block
    return [name for name in inspect.signature(original.forward).parameters if name != "self"][1:]
