"""What every module here shares: the precisions it trains in, and that data and checkpoints are meant for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lightning_modules.agreement import check_checkpoint, check_data, check_weights
from lightning_modules.sharding import shard
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


_ABOUT = "tl_nla_about"


class TrainingModule(L.LightningModule):
    """A module that knows what it can be trained on.

    Attributes:
        trains_in: precisions of the Trainer that it can be fitted in; it can be scored in any.
        needs: what it reads, as the ``serves`` of our data modules tells it; ``None`` for anything.
    """

    trains_in: tuple[str, ...] = TRAINS_IN
    needs: str | None = None

    def data_site(self) -> str | None:
        """The state that is explained; ``None`` where it is not one."""
        return None

    def data_width(self) -> int | None:
        """Size of the vectors that are read; ``None`` for any."""
        return None

    def setup(self, stage: str) -> None:
        """Check the Trainer's precision, and that the data are what this module is for.

        Raises:
            InputError: when the training would come to nothing, or the data are of another site, size or kind.
        """
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            check_data(type(self).__name__, data, self.needs, self.data_site(), self.data_width())
        found = str(self.trainer.precision)
        if stage == "fit" and found.startswith(("16", "bf16", "32", "64")) and found not in self.trains_in:
            raise InputError(
                f"{type(self).__name__} cannot be trained with precision={found!r}: its weights need more digits or "
                f"range than that leaves; use one of {', '.join(map(repr, self.trains_in))}"
            )

    def configure_model(self) -> None:
        """Share the parts out over the processes, where the strategy is ``fsdp2``."""
        mesh = getattr(self, "_device_mesh", None)
        if mesh is not None:
            shard(self, mesh["data_parallel"])

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """Nothing, unless a module says otherwise.

        Raises:
            InputError: always.
        """
        raise InputError(f"{type(self).__name__} has nothing to predict; use validate or test, or its saved parts")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note what is explained."""
        checkpoint[_ABOUT] = {"site": self.data_site()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this training.

        Raises:
            InputError: when it is of another site, or holds other weights.
        """
        check_checkpoint("states", checkpoint.get(_ABOUT, {}), {"site": self.data_site()})
        if "state_dict" in checkpoint:
            check_weights(checkpoint["state_dict"], self.checkpoint_weights())

    def checkpoint_weights(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold."""
        return self.state_dict()

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
