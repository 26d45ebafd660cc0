"""Which columns of a forward pass are new, with and without the key-value cache, and which of those are chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.positions import real_tokens, row_positions, select_positions, whole_numbers

Generated = bool | str
"""``True``, ``False`` or ``"only"``."""
_FEATURES = 4


@dataclass
class RunningText:
    """A batch of texts as it grows: its prompt, then one column for each generated token.

    A forward pass says neither where its columns stand nor whether a cache is used. Both are read off the values that
    enter block 0. Without the cache each pass repeats the earlier columns bit by bit; with it a pass holds the new
    column alone.

    Attributes:
        prompt: columns of the first forward pass.
        first_row: number of this batch's first row among all rows read so far.
        seen: a few features of every column so far, as they entered block 0.
    """

    prompt: int
    first_row: int
    seen: Shaped[Tensor, "batch pos features"]

    @classmethod
    def begin(cls, states: Float[Tensor, "batch pos d_model"], first_row: int) -> "RunningText":
        """A text that has not been read yet; its prompt is what ``states`` holds."""
        return cls(states.shape[1], first_row, states[:, :0, :_FEATURES].clone())

    def goes_on(self, states: Float[Tensor, "batch pos d_model"]) -> bool:
        """Whether a forward pass with these states entering block 0 continues this text."""
        old, new = self.seen.shape[1], states.shape[1]
        if states.shape[0] != self.seen.shape[0]:
            return False
        if new > old:
            return torch.equal(states[:, :old, :_FEATURES].to(self.seen), self.seen)
        return new == 1

    def extend(self, states: Float[Tensor, "batch pos d_model"]) -> int:
        """Add a forward pass's columns; returns how many of them are new (the last ones)."""
        old, length = self.seen.shape[1], states.shape[1]
        new = 1 if length == 1 and old > 0 else length - old
        self.seen = torch.cat([self.seen, states[:, length - new :, :_FEATURES].to(self.seen)], 1)
        return new


def known_positions(positions: Any, generated: Generated) -> Any:
    """Check what an adapter was given as positions.

    Returns:
        The positions; an iterable of integers as a list.

    Raises:
        InputError: for token strings (adapters see activations, not text), backward slices and unknown kinds.
    """
    if generated not in (True, False, "only"):
        raise InputError(f"generated is {generated!r}; allowed: True, False or 'only'")
    if isinstance(positions, Tensor) and positions.dtype == torch.bool and positions.ndim == 2:
        return positions
    if isinstance(positions, slice):
        if positions.step is not None and positions.step < 1:
            raise InputError(f"positions {positions!r} run backwards; give a positive step")
        return positions
    if isinstance(positions, str):
        if positions == "all":
            return positions
        raise InputError(f"positions {positions!r}: adapters see no text; give numbers, a slice, a bool mask or 'all'")
    numbers = whole_numbers(positions, "'all'")
    if not numbers:
        raise InputError("the list of positions is empty; give at least one position")
    return numbers


def choose_new(
    text: RunningText, new: int, positions: Any, generated: Generated, attention_mask: Tensor | None
) -> tuple[Bool[Tensor, "batch new"], Int[Tensor, "batch new"]]:
    """Which of a text's newest columns are wanted, and their numbers among each row's real tokens.

    Raises:
        InputError: when the mask has another shape than the prompt, or a negative position lies before it.
    """
    batch, total = text.seen.shape[:2]
    real = real_tokens(torch.zeros(batch, text.prompt, dtype=torch.long), _cpu(attention_mask))
    lengths = real.sum(1, keepdim=True)
    number = torch.cat([row_positions(real), lengths + torch.arange(total - text.prompt)], 1)[:, total - new :]
    is_new_token = (torch.arange(total - new, total) >= text.prompt).expand(batch, new)
    is_real = torch.cat([real, torch.ones(batch, total - text.prompt, dtype=torch.bool)], 1)[:, total - new :]
    chosen = _wanted(positions, number, lengths, real, is_new_token)
    if generated is not True:
        chosen = chosen & (is_new_token if generated == "only" else ~is_new_token)
    return chosen & is_real, number


def _wanted(positions: Any, number: Tensor, lengths: Tensor, real: Tensor, is_new_token: Tensor) -> Tensor:
    if isinstance(positions, str):
        return torch.ones_like(is_new_token)
    if isinstance(positions, Tensor):
        in_prompt = select_positions(torch.zeros_like(real, dtype=torch.long), _cpu(positions), real)
        return torch.zeros_like(is_new_token) if is_new_token.any() else in_prompt
    if isinstance(positions, slice):
        start = _counted(positions.start or 0, lengths).clamp_min(0)
        inside = (number >= start) & ((number - start) % (positions.step or 1) == 0)
        return inside if positions.stop is None else inside & (number < _counted(positions.stop, lengths))
    return _listed(positions, number, lengths)


def _listed(positions: Sequence[int], number: Tensor, lengths: Tensor) -> Tensor:
    chosen = torch.zeros_like(number, dtype=torch.bool)
    for position in positions:
        place = _counted(position, lengths)
        if (place < 0).any():
            shortest = int(lengths.min())
            raise InputError(f"position {position} lies before the prompt; its shortest row has {shortest} tokens")
        chosen |= number == place
    return chosen


def _counted(position: int, lengths: Tensor) -> Tensor:
    return lengths + position if position < 0 else torch.full_like(lengths, position)


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return tensor.detach().cpu() if isinstance(tensor, Tensor) else tensor
