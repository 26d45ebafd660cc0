"""States of a language model at one block about texts; each text is read once, and blocks behind are not run."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.data.progress import told
from tl_nla.model.families import decoder_layers
from tl_nla.model.probe import device_of

_TOKENS = 2**12
"""Tokens of one pass."""

Ids = tuple[int, ...]


class BlockStates:
    """The last token's state and the mean state at the output of a block."""

    def __init__(self, model: Any, layer: int, filler: int) -> None:
        self.model, self.block, self.filler = model, decoder_layers(model)[layer], filler
        self._known: dict[Ids, Tensor] = {}

    def __call__(self, texts: Sequence[Sequence[int]]) -> Float[Tensor, "n two_d"]:
        """Both states of each text."""
        wanted = [tuple(ids) for ids in texts]
        self._read([ids for ids in dict.fromkeys(wanted) if ids not in self._known])
        return torch.stack([self._known[ids] for ids in wanted])

    def _read(self, new: list[Ids]) -> None:
        # In this order a text stands right behind the longer ones that it begins: one pass tells of both.
        groups: list[list[Ids]] = []
        for ids in sorted(new, reverse=True):
            if groups and groups[-1][0][: len(ids)] == ids:
                groups[-1].append(ids)
            else:
                groups.append([ids])
        groups.sort(key=lambda group: len(group[0]))
        batches: list[list[list[Ids]]] = []
        for group in groups:
            if not batches or (len(batches[-1]) + 1) * len(group[0]) > _TOKENS:
                batches.append([])
            batches[-1].append(group)
        for batch in told(batches, "reading words") if len(batches) > 1 else batches:
            self._pass(batch)

    @torch.no_grad()
    def _pass(self, groups: Sequence[list[Ids]]) -> None:
        width = max(len(group[0]) for group in groups)
        # Right padding of a causal model needs no mask: nothing behind a position can reach it.
        tokens = torch.tensor([[*group[0], *[self.filler] * (width - len(group[0]))] for group in groups])
        states = self._states(tokens)
        sums = states.cumsum(1)
        for row, group in enumerate(groups):
            for ids in group:
                last = len(ids) - 1
                self._known[ids] = torch.cat([states[row, last], sums[row, last] / len(ids)])

    def _states(self, tokens: Tensor) -> Float[Tensor, "n pos d"]:
        kept: list[Tensor] = []

        def keep(module: Any, given: Any, found: Any) -> None:
            kept.append((found[0] if isinstance(found, tuple) else found).float().cpu())
            raise _Read

        hook = self.block.register_forward_hook(keep)
        try:
            self.model(tokens.to(device_of(self.model)), use_cache=False)
        except _Read:
            return kept[0]
        finally:
            hook.remove()
        raise RuntimeError("the block was not run")


class _Read(Exception):
    """The block's output is known; what stands behind it need not run."""
