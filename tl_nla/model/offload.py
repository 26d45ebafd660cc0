"""Parts of a pair that wait on the CPU and take turns on one accelerator."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tl_nla.errors import InputError


class Turns:
    """Modules that wait on one device and compute on another, one at a time.

    Raises:
        InputError: when both are the same, so that nothing would move.

    Example:
        >>> turns = Turns("cuda")
        >>> with turns.of(nla.verbalizer) as verbalizer:
        ...     verbalizer.generate(states)
    """

    def __init__(self, device: torch.device | str, waiting: torch.device | str = "cpu") -> None:
        self.device, self.waiting = torch.device(device), torch.device(waiting)
        if self.device == self.waiting:
            raise InputError(
                f"offload moves parts between {str(self.waiting)!r} and another device, and device is "
                f"{str(self.device)!r}; give a device such as 'cuda', or leave offload out"
            )
        self._working: nn.Module | None = None

    @contextmanager
    def of(self, module: nn.Module) -> Iterator[nn.Module]:
        """Move a module to the device and back, also when the block ends in an error.

        Inside the turn of a module its own turns move nothing, so that a loop can be put around them.

        Raises:
            InputError: when another module's turn is on.
        """
        if self._working is module:
            yield module
            return
        if self._working is not None:
            own, other = type(self._working).__name__, type(module).__name__
            raise InputError(f"it is the turn of {own}; end its block before that of {other}")
        self._working = module
        try:
            yield module.to(self.device)
        finally:
            module.to(self.waiting)
            self._working = None


@contextmanager
def turn(turns: Turns | None, module: nn.Module) -> Iterator[nn.Module]:
    """A module's turn; the module where it is when there are no turns."""
    if turns is None:
        yield module
        return
    with turns.of(module) as moved:
        yield moved


def placed(module: nn.Module, device: str, offload: bool) -> Turns | None:
    """Put a loaded pair on its device, or leave it on the CPU for its parts to take turns; the turns.

    Raises:
        InputError: for ``offload`` without another device than the CPU.
    """
    if offload:
        return Turns(device)
    module.to(device)
    return None
