"""Runs that end in the same weights, however often they were killed."""

import random
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from lightning_modules.callbacks.checkpoint_io import AtomicCheckpointIO
from lightning_modules.outputs import check_checkpoints
from tl_nla.errors import InputError

_KEY = "exact_resume"


class ExactResume(L.Callback):
    """A killed run, continued with ``ckpt_path="last"``, ends in the weights of the uninterrupted one.

    Bit-equal on a CPU, with a loader that has a state, such as
    :class:`lightning_modules.data.resumable_loader.ResumableLoader`. Global random numbers are drawn afresh for each
    training batch from (seed, batch, process). Nothing has to be stored, and validation or logging in between cannot
    shift them. Gradients of an unfinished accumulation are part of the checkpoint. Files are written whole or not at
    all, and damaged ones are refused.

    Not restored: random numbers inside data-loader workers, and files of strategies that write their own (FSDP,
    DeepSpeed). Nor are unfinished accumulations of several processes: save at optimiser steps, as ``ModelCheckpoint``
    does.

    Args:
        seed: of the random numbers.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.batches = 0
        self._accumulating = False
        self._gradients: dict[str, torch.Tensor] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Put the atomic writer in the place of Lightning's own; other writers of the user's stay.

        Raises:
            InputError: when checkpoints could not be written.
        """
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if stage == "fit" and trainer.is_global_zero:
            check_checkpoints(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw from (seed, batch, process), and give gradients back once after a resume."""
        epochs: Any = trainer.fit_loop.epoch_progress
        if epochs.current.ready == epochs.current.processed:
            # Lightning leaves out the start of the epoch after one that ended with the checkpoint. A checkpoint at the
            # end of that epoch, too, would then have it trained again.
            epochs.increment_ready()
            epochs.increment_started()
        parameters = dict(pl_module.named_parameters())
        for name, gradient in self._gradients.items():
            parameters[name].grad = gradient.to(parameters[name])
        self._gradients = {}
        mixed = ((self.seed * 1_000_003 + self.batches) * 1_009 + trainer.global_rank) % 2**63
        random.seed(mixed)
        torch.manual_seed(mixed)
        self.batches += 1

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here to the step there are gradients to lose."""
        self._accumulating = True

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """The step uses the gradients up."""
        self._accumulating = False

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the batch count and, in an unfinished accumulation, the gradients."""
        gradients = {}
        if self._accumulating and trainer.world_size > 1:
            rank_zero_warn("a checkpoint inside an accumulation of several processes does not resume exactly")
        elif self._accumulating:
            gradients = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}
        checkpoint[_KEY] = {"seed": self.seed, "batches": self.batches, "gradients": gradients}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the batch count and the gradients back.

        Raises:
            InputError: when the checkpoint was written without this callback, or with another seed.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        state = checkpoint.get(_KEY)
        if state is None:
            raise InputError("the checkpoint was written without ExactResume; continue it without the callback")
        if state["seed"] != self.seed:
            raise InputError(f"the checkpoint was written with seed {state['seed']}, this run has {self.seed}")
        self.batches, self._gradients = state["batches"], state["gradients"]
        self._accumulating = bool(self._gradients)
