"""Keys and values of a generation in memory that is there already: a new token is written, nothing is copied."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 64
"""Tokens that a layer makes room for at once; what it holds is copied when they are used up."""


def roomy_cache() -> DynamicCache:
    """An empty cache for a generation without gradient.

    The cache of transformers joins old and new tokens in new memory at every step. For 32 rows of SmolLM2 behind a
    prompt of 104 tokens that took a third of the time. This one keeps room behind the tokens. A step is given views,
    which hold until rows are taken out.
    """
    cache = DynamicCache()
    cache.layer_class_to_replicate = _RoomyLayer
    return cache


class _RoomyLayer(DynamicLayer):
    """``keys`` and ``values`` are views of the front of ``_held``, which has room for more tokens."""

    keys: Tensor
    values: Tensor
    _held: tuple[Tensor, ...] | None = None

    def update(
        self, key_states: Float[Tensor, "n heads new d_head"], value_states: Float[Tensor, "n heads new d_head"],
        *args: object, **kwargs: object,
    ) -> tuple[Float[Tensor, "n heads pos d_head"], Float[Tensor, "n heads pos d_head"]]:  # fmt: skip
        """Put new tokens behind those that are there."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        length = before + key_states.shape[-2]
        if self._held is None or self._held[0].shape[-2] < length:
            pairs = (self.keys, key_states), (self.values, value_states)
            self._held = tuple(_with_room(old, new, length) for old, new in pairs)
        rows = len(key_states)
        for held, new in zip(self._held, (key_states, value_states), strict=True):
            held[:rows, :, before:length] = new
        self.keys, self.values = (held[:rows, :, :length] for held in self._held)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row so many times, in new memory."""
        super().batch_repeat_interleave(repeats)
        self._held = None

    def batch_select_indices(self, indices: Int[Tensor, " kept"]) -> None:
        """Keep some rows, in this order; a row that stays at its place is not copied."""
        if self._held is None or len(indices) > len(self.keys):
            super().batch_select_indices(indices)
            self._held = None
            return
        moved = torch.nonzero(indices != torch.arange(len(indices), device=indices.device)).flatten()
        if len(moved):
            self.keys[moved] = self.keys[indices[moved]]
            self.values[moved] = self.values[indices[moved]]
        self.keys, self.values = self.keys[: len(indices)], self.values[: len(indices)]


def _with_room(old: Tensor, new: Tensor, length: int) -> Tensor:
    rows, heads, _, width = new.shape
    made = new.new_empty(rows, heads, length + _ROOM, width)
    if old.numel():
        made[:, :, : old.shape[-2]] = old
    return made
