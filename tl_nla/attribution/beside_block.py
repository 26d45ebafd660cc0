"""One block run on copies of some positions, which see the clean tokens and themselves."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from tl_nla.attribution.clean_run import BlockCall, CleanRun, hooked
from tl_nla.attribution.replay import Edit
from tl_nla.errors import InputError

_MASK = "attention_mask"
_ALIGNED = 16
"""Products of so many rows, or a multiple of it, take up to 15% less time on a processor."""


class NotBesideError(InputError):
    """This model's blocks cannot be run on copies beside the clean tokens."""


class _Past:
    """Stands where a block expects its cache: gives the clean keys and values, and behind them the copies' own."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.key, self.value, self.asked = key, value, 0

    def update(self, key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Both in front of what is new."""
        self.asked += 1
        rows = (len(key), -1, -1, -1)
        return torch.cat([self.key.expand(rows), key], -2), torch.cat([self.value.expand(rows), value], -2)

    def get_seq_length(self, layer: int = 0) -> int:
        """How many clean tokens there are."""
        return self.key.shape[-2]


@dataclass(frozen=True)
class Beside:
    """Clean tokens up to ``length`` of a run of ``whole`` tokens, then one token for each of ``places``.

    With ``keys`` the block is given the copies alone, and the clean tokens as keys and values. With ``group`` they are
    rows of a batch, so many to a row, so that they have no scores for the copies of other rows. ``known`` keeps what
    was made of the arguments: mostly all blocks are given the same.
    """

    whole: int
    length: int
    places: tuple[int, ...]
    keys: tuple[Tensor, Tensor] | None = None
    group: int = 0
    known: dict[Any, Tensor] = field(default_factory=dict)

    @property
    def _front(self) -> int:
        """How many tokens stand before the copies."""
        return self.length if self.keys is None else 0

    @property
    def _rows(self) -> int:
        """In how many rows the copies stand."""
        if not self.group or len(self.places) <= self.group:
            return 1
        fewest = -(-self._filled // self.group)
        return next(rows for rows in range(fewest, self._filled + 1) if self._filled % rows == 0)

    @property
    def _each(self) -> int:
        """How many copies stand in each row."""
        return self._filled // self._rows

    @property
    def _filled(self) -> int:
        """How many copies stand in all rows, those among them that fill up."""
        count = len(self.places)
        return -(-count // _ALIGNED) * _ALIGNED if self.group and count > self.group else count

    def run(self, clean: CleanRun, call: BlockCall, given: Tensor, edits: Mapping[int, Sequence[Edit]]) -> Tensor:
        """Run one block on clean tokens and copies, or on the copies alone."""
        rows, missing = self._rows, self._rows * self._each - len(self.places)
        if rows == 1:
            return self._run(clean, call, given, edits)
        # Rows are filled up with the last copy, which is an unchanged one.
        filled = torch.cat([given, given[:, -1:].expand(-1, missing, -1)], 1).unflatten(1, (rows, -1))[0]
        full = replace(self, places=self.places + self.places[-1:] * missing)
        return full._run(clean, call, filled, edits).flatten(0, 1)[None, : len(self.places)]

    def _run(self, clean: CleanRun, call: BlockCall, given: Tensor, edits: Mapping[int, Sequence[Edit]]) -> Tensor:
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
        shape = self._rows, self._front + self._each
        together: dict[Callable[[Tensor], Tensor], list[int]] = {}
        for row, edit in rows.items():  # copies of a component at several positions share its edit
            together.setdefault(edit, []).append(self._front + row)
        alike = [(edit, torch.tensor(own)) for edit, own in together.items()]

        def function(value: Tensor, hook: Any) -> Tensor:
            if value.ndim < 2 or (value.shape[:2] != shape if self._rows > 1 else value.shape[1] != shape[1]):
                raise NotBesideError(f"{hook.name} does not show one row a token")
            changed = value.clone()
            line = changed.flatten(0, 1)[None] if self._rows > 1 else changed
            for edit, own in alike:
                line[:, own] = edit(line[:, own])
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
        key = id(value), self.places
        if key not in self.known:
            self.known[key] = self._made(value)
        return self.known[key]

    def _made(self, value: Tensor) -> Tensor:
        if value.ndim > 3 and value.shape[-2:] == (self.whole, self.whole):
            return self._masked(value)
        axis = next(axis for axis in (1, 2, 0, *range(3, value.ndim)) if axis < value.ndim
                    and value.shape[axis] == self.whole)  # fmt: skip
        index = self._index(value.device)
        # What has its entries in the last axis belongs to keys, such as the slopes of ALiBi; the rest to queries.
        keys = value.ndim > 2 and axis == value.ndim - 1
        if self._rows == 1:
            return value.index_select(axis, index if keys else index[self.length - self._front :])
        if keys or axis != 1 or len(value) != 1:
            raise NotBesideError("its blocks take arguments without an axis for the rows of a batch")
        return value[0, index[self.length :]].unflatten(0, (self._rows, -1))

    def _masked(self, mask: Tensor) -> Tensor:
        """The mask of the clean run, for clean tokens and copies: a copy sees what its position saw, and not others."""
        index, length = self._index(mask.device), self.length
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        if self._rows > 1:
            return self._masked_rows(mask, index[length:], hidden)
        taken = mask.index_select(-2, index).index_select(-1, index)
        rows = torch.arange(len(self.places), device=mask.device) + length
        own = taken[..., rows, rows].clone()
        taken[..., length:] = hidden
        taken[..., rows, rows] = own
        taken[..., rows, index[length:]] = hidden
        return taken[..., length - self._front :, :]

    def _masked_rows(self, mask: Tensor, places: Tensor, hidden: float) -> Tensor:
        """The same for rows of a batch: ``[row, 1 or head, copy, clean token and copy]``."""
        if mask.ndim != len(("batch", "head", "query", "key")) or len(mask) != 1:
            raise NotBesideError("its blocks take a mask without an axis for the rows of a batch")
        heads, each = mask.shape[1], self._each
        taken = mask.new_full((heads, len(places), self.length + each), hidden)
        taken[..., : self.length] = mask[0][:, places, : self.length]
        number = torch.arange(len(places), device=mask.device)
        taken[:, number, places] = hidden
        taken[:, number, self.length + number % each] = mask[0][:, places, places]
        return taken.unflatten(1, (self._rows, each)).transpose(0, 1)

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
        known = "causal", self.places, given.dtype, given.device
        if known not in self.known:
            size = (1, 1, self.whole, self.whole)
            causal = torch.full(size, torch.finfo(given.dtype).min, dtype=given.dtype, device=given.device).triu(1)
            self.known[known] = self._masked(causal)
        holder[key] = self.known[known]


def _argument_names(block: nn.Module) -> list[str]:
    """Names of the arguments behind the residual stream; a bridge's block takes any, its original component knows."""
    original = getattr(block, "original_component", None) or block
    return [name for name in inspect.signature(original.forward).parameters if name != "self"][1:]
