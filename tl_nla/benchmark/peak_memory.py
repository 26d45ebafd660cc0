"""Peak memory of tensors, which a process's own peak hides behind its pools."""

import weakref
from collections import Counter
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
        kind: names what a tensor is when it is made, for ``at_peak``.

    Attributes:
        peak: most bytes alive at once.
        largest: bytes of the largest tensor.
        at_peak: bytes alive at the peak, by kind.
    """

    def __init__(self, known: Iterable[Tensor] = (), kind: Callable[[Tensor], str] | None = None) -> None:
        super().__init__()
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._kind = kind or (lambda tensor: "")
        self._kinds: dict[int, str] = {}
        self._now: Counter[str] = Counter()
        self.at_peak: dict[str, int] = {}
        self.peak = self.largest = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count what it made."""
        output = function(*arguments, **(keywords or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in self._known:
                storage = leaf.untyped_storage()
                self._known.add(storage._cdata)
                self._kinds[storage._cdata] = kind = self._kind(leaf)
                self._now[kind] += storage.nbytes()
                self.largest = max(self.largest, storage.nbytes())
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self._look()
        return output

    def relabel(self, tensor: Tensor, kind: str) -> None:
        """Count a tensor that was made inside the block as another kind from here on."""
        key = tensor.untyped_storage()._cdata
        if key in self._kinds:
            size = tensor.untyped_storage().nbytes()
            self._now[self._kinds[key]] -= size
            self._now[kind] += size
            self._kinds[key] = kind

    def restart(self) -> None:
        """Begin the peak anew, at what is alive now."""
        self.peak, self.at_peak = 0, {}
        self._look()

    def _look(self) -> None:
        now = sum(self._now.values())
        if now > self.peak:
            self.peak, self.at_peak = now, dict(self._now)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now[self._kinds.pop(key)] -= size


def peak_megabytes(function: Callable[[], Any], model: torch.nn.Module) -> float:
    """Peak of the memory of tensors, in MiB, while a function runs and its result is held."""
    with PeakMemory([*model.parameters(), *model.buffers()]) as memory:
        kept = function()
    del kept
    return memory.peak / 2**20
