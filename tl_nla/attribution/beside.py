"""Leaving components out at some positions for the cost of about one forward pass.

A changed copy of a position is run as one more token behind the clean ones. It has the position embedding of its
position, and sees the clean keys and values before that position, and itself. The copies of all components go through
a block together, beside the clean tokens that they look at.

Every run proves that the model permits this. The clean tokens must give what they gave in the clean run. An unchanged
copy of each position, behind all changed ones, must end as that position did.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tl_nla.attribution.capture import BlockCall, CleanRun, hooked
from tl_nla.attribution.replay import Edit, Start
from tl_nla.errors import InputError
from tl_nla.model.rounding import same_state

_SCORES = 2**25
_FEWEST = 16
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
    def of(cls, start: Start, position: int) -> "Copy":
        """The copy of one column of a start."""
        return cls(start.layer, start.residual[:, position].clone(), start.edits, position)


def copies_at_once(clean: CleanRun, heads: int) -> int:
    """How many copies may run together before attention scores take too much memory."""
    widest = int((_SCORES / (clean.batch * max(1, heads))) ** 0.5)
    return max(_FEWEST, widest - clean.logits.shape[1])


def run_beside(clean: CleanRun, copies: Sequence[Copy]) -> Float[Tensor, "copy batch d_model"]:
    """Last residual states of changed copies, each seeing the clean past and itself.

    Args:
        clean: the clean run.
        copies: what is changed, and where.

    Returns:
        The state behind the last block of each copy.

    Raises:
        NotBesideError: when clean tokens or unchanged copies do not come out as they did.
    """
    positions = sorted({copy.position for copy in copies})
    unchanged = [Copy.of(Start(0, clean.inputs[0]), position) for position in positions]
    everyone, length = [*copies, *unchanged], positions[-1] + 1
    states = [copy.state for copy in everyone]
    with torch.no_grad():
        for layer, call in enumerate(clean.calls):
            entering, after = clean.inputs[layer], clean.inputs[layer + 1]
            active = [number for number, copy in enumerate(everyone) if copy.layer <= layer]
            own = torch.stack([states[number].to(entering) for number in active], 1)
            edits = {row: everyone[number].edits for row, number in enumerate(active)
                     if everyone[number].layer == layer}  # fmt: skip
            beside = _Beside(clean.logits.shape[1], length, tuple(everyone[number].position for number in active))
            out = beside.run(clean, call, torch.cat([entering[:, :length], own], 1), edits)
            valid = clean.valid[:, :length]
            _check(out[:, :length], after[:, :length], valid, 1)
            for row, number in enumerate(active):
                states[number] = out[:, length + row]
    done = torch.stack([state.to(clean.inputs[-1]) for state in states])
    for number, position in enumerate(positions, len(copies)):
        _check(done[number], clean.inputs[-1][:, position], clean.valid[:, position], len(clean.calls))
    return done[: len(copies)]


def _check(found: Tensor, known: Tensor, valid: Tensor, blocks: int) -> None:
    keep = valid.to(found.device)
    # Roundings of several blocks add up like random steps.
    if bool(keep.any()) and not same_state(found[keep], known.to(found.device)[keep], blocks**0.5):
        raise NotBesideError("copies beside the clean tokens do not come out as in the clean run")


@dataclass(frozen=True)
class _Beside:
    """Clean tokens up to ``length`` of a run of ``whole`` tokens, then one token for each of ``places``."""

    whole: int
    length: int
    places: tuple[int, ...]

    def run(self, clean: CleanRun, call: BlockCall, given: Tensor, edits: Mapping[int, Sequence[Edit]]) -> Tensor:
        """Run one block on clean tokens and copies."""
        args = [self._taken(value) for value in call.args]
        kwargs = {name: self._taken(value) for name, value in call.kwargs.items()}
        self._put_mask(call, args, kwargs, given)
        by_point: dict[str, dict[int, Callable[[Tensor], Tensor]]] = {}
        for row, pairs in edits.items():
            for name, edit in pairs:
                by_point.setdefault(name, {})[row] = edit
        if missing := [name for name in by_point if name not in clean.points]:
            raise NotBesideError(f"the model has no hook point {missing[0]}")
        hooks = [(clean.points[name], self._edited(rows)) for name, rows in by_point.items()]
        try:
            with hooked(hooks):
                return BlockCall(call.block, tuple(args), kwargs, call.keyword)(given, 1, 1)
        except NotBesideError:
            raise
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise NotBesideError(f"its blocks take no tokens beside the clean ones ({type(error).__name__})") from error

    def _edited(self, rows: Mapping[int, Callable[[Tensor], Tensor]]) -> Callable[..., Tensor]:
        def function(value: Tensor, hook: Any) -> Tensor:
            if value.ndim < 2 or value.shape[1] != self.length + len(self.places):
                raise NotBesideError(f"{hook.name} does not show one row a token")
            changed = value.clone()
            for row, edit in rows.items():
                own = slice(self.length + row, self.length + row + 1)
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
        if value.ndim >= 3 and value.shape[-2:] == (self.whole, self.whole) and value.ndim > 3:
            return self._masked(value)
        axis = next(axis for axis in (1, 2, 0, *range(3, value.ndim)) if axis < value.ndim
                    and value.shape[axis] == self.whole)  # fmt: skip
        return value.index_select(axis, self._index(value.device))

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
        return taken

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
