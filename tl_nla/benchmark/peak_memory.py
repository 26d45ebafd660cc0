"""Peak memory of tensors, which a process's own peak hides behind its pools."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors alive that were made inside the block.

    Args:
        known: tensors that were there before, such as a model's parameters.

    Attributes:
        peak: most bytes alive at once.
        largest: bytes of the largest tensor.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._now = self.peak = self.largest = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count what it made."""
        output = function(*arguments, **(keywords or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in self._known:
                storage = leaf.untyped_storage()
                self._known.add(storage._cdata)
                self._now += storage.nbytes()
                self.largest = max(self.largest, storage.nbytes())
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self._now)
        return output

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def peak_megabytes(function: Callable[[], Any], model: torch.nn.Module) -> float:
    """Peak of the memory of tensors, in MiB, while a function runs and its result is held."""
    with PeakMemory([*model.parameters(), *model.buffers()]) as memory:
        kept = function()
    del kept
    return memory.peak / 2**20
