"""What every module here shares: which precisions it trains in, and what is not cast when its weights are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor

from tl_nla.errors import InputError

TRAINS_IN = ("32-true", "64-true", "bf16-true", "bf16-mixed", "16-mixed")
"""Precisions of the Trainer. In float16 alone, AdamW's epsilon and the squares of small gradients are zero."""


@contextmanager
def default_float32() -> Iterator[None]:
    """New tensors are float32 inside: precision="64-true" changes that for models, too, that are not cast."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class TrainingModule(L.LightningModule):
    """A module that can be fitted in ``trains_in``, and scored in any precision of the Trainer."""

    trains_in: tuple[str, ...] = TRAINS_IN

    def setup(self, stage: str) -> None:
        """Check the Trainer's precision.

        Raises:
            InputError: when this training would come to nothing in it.
        """
        found = str(self.trainer.precision)
        if stage == "fit" and found.startswith(("16", "bf16", "32", "64")) and found not in self.trains_in:
            raise InputError(
                f"{type(self).__name__} cannot be trained with precision={found!r}: its weights need more digits or "
                f"range than that leaves; use one of {', '.join(map(repr, self.trains_in))}"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Cast the weights, but only move what is no weight.

        ``precision="bf16-true"`` casts a module as a whole. Rotary frequencies would lose positions by it, usual
        magnitudes a hundredth of their size, and the sums of metrics whole rows.
        """
        weights = list(self.parameters())
        cast = [*weights, *(weight.grad for weight in weights if weight.grad is not None)]
        known = {id(tensor) for tensor in cast}

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype or id(tensor) in known else tensor.to(moved.device)

        return super()._apply(keep, recurse)
