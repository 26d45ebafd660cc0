"""One stage of a training: any module, a loss of rows that are given by number, and Lightning's ``Trainer``."""

import logging
import random
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from lightning_modules.base import TrainingModule
from lightning_modules.callbacks.learning_curve import Curve, LearningCurve
from lightning_modules.callbacks.resume import ExactResume
from lightning_modules.callbacks.stages import StageCheckpoint, StageProgress
from lightning_modules.data.resumable_loader import PassesSampler, ResumableLoader
from lightning_modules.training.precision import known_precision, matmul_precision
from lightning_modules.training.schedules import FlatThenDown, check_rates, known_optimizer, new_optimizer
from tl_nla.amounts import check_counts
from tl_nla.errors import InputError

_SETTINGS = "stage_settings"
_USUAL = ("The '.*dataloader' does not have many workers", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
"""Warnings that tell a user nothing: rows are numbers, which no worker could fetch faster."""


@dataclass(frozen=True)
class StageConfig:
    """How a stage is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: rows a step.
        learning_rate: of Muon, with a tenth of it for AdamW's parameters; or of AdamW.
        seed: of the order of rows, and of whatever a loss draws.
        down: share of the stage over which its rate falls to nothing.
        rise: steps over which the rate rises.
        clip: the most that the norm of all gradients may be.
        curve: points of the learning curve, evenly spaced.
        precision: of matrix products (:mod:`lightning_modules.training.precision`).
        optimizer: ``"muon"`` (with AdamW for what is no matrix), or ``"adamw"`` for everything.
    """

    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 0.01
    seed: int = 0
    down: float = 0.625
    rise: int = 50
    clip: float = 1.0
    curve: int = 6
    precision: str = "highest"
    optimizer: str = "muon"

    def __post_init__(self) -> None:
        known_optimizer(self.optimizer)
        known_precision(self.precision)
        check_rates(learning_rate=self.learning_rate, clip=self.clip)
        check_counts(self, "steps", "batch_size", "curve", "rise")
        if not 0 < self.down <= 1:
            raise InputError(f"down is {self.down}; allowed: a share above 0, at most 1")

    def marks(self) -> list[int]:
        """Steps of the points of the learning curve."""
        return sorted({round(self.steps * (place + 1) / self.curve) for place in range(self.curve)} - {0})


@dataclass(frozen=True)
class StageSpec:
    """What a stage trains on.

    Attributes:
        loss: of some rows, given by their numbers (a tensor on the CPU). What it draws from torch's global generator
            depends on the seed and the step alone, so that a stage that goes on draws the same.
        rows: how many rows there are.
        config: steps, rate, order of rows.
        score: for the learning curve; without it the curve is one of losses.
    """

    loss: Callable[[Tensor], Tensor]
    rows: int
    config: StageConfig
    score: Callable[[], Any] | None = None


class Stage(TrainingModule):
    """Trains a module on a loss of rows.

    Rows come pass after pass, each in an order of its own, in whole batches.

    Args:
        module: trained in place.
        spec: loss, rows, steps.
        settings: what a checkpoint of this stage has to be trained with, in words.
    """

    def __init__(self, module: nn.Module, spec: StageSpec, settings: str = "") -> None:
        super().__init__()
        self.module, self.spec, self.settings = module, spec, f"{settings}, {spec.config}"

    def train_dataloader(self) -> ResumableLoader:
        """Numbers of rows, as many batches as there are steps."""
        config, rows = self.spec.config, range(self.spec.rows)
        order = PassesSampler(rows, config.steps * config.batch_size, config.seed)
        return ResumableLoader(rows, config.batch_size, config.seed, order)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Numbers stay where they are: what they number is the loss's to move."""
        return batch

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Loss of some rows."""
        return self.spec.loss(batch)

    def configure_optimizers(self) -> Any:
        """The optimiser with a rate that rises, stays, and falls to nothing."""
        config = self.spec.config
        optimizer = new_optimizer(self.module.named_parameters(), config.optimizer, config.learning_rate)
        schedule = FlatThenDown(optimizer, config.steps, config.down, config.rise)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the settings."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_SETTINGS] = self.settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this stage.

        Raises:
            InputError: when it was trained with other settings.
        """
        found = checkpoint.get(_SETTINGS)
        if found != self.settings:
            raise InputError(f"the stage's checkpoint was written with other settings ({found}; now {self.settings})")
        super().on_load_checkpoint(checkpoint)


def run_stage(
    module: nn.Module, spec: StageSpec, checkpoint: Path | None = None, settings: str = "",
    tell: Callable[[int, int], None] | None = None,
) -> Curve:  # fmt: skip
    """Train a module with Lightning's ``Trainer``, on the device where it stands.

    Global random numbers are the same afterwards as before.

    Args:
        module: trained in place; in evaluation mode afterwards.
        spec: loss, rows, steps.
        checkpoint: written now and then, and gone on from where it is there; it stays when the stage ends.
        settings: what that checkpoint has to be trained with, in words.
        tell: takes the steps done and all steps.

    Returns:
        The learning curve.

    Raises:
        InputError: when the checkpoint is damaged, or of another stage.
        KeyboardInterrupt: when the user interrupts.
    """
    device = next(module.parameters()).device
    curve = LearningCurve(module, spec.config.marks(), spec.score)
    callbacks: list[L.Callback] = [ExactResume(spec.config.seed), curve]
    callbacks += [StageProgress(tell)] if tell is not None else []
    callbacks += [StageCheckpoint(checkpoint)] if checkpoint is not None else []
    found = str(checkpoint) if checkpoint is not None and checkpoint.is_file() else None
    module.train()
    with matmul_precision(module, spec.config.precision), _quiet(), _own_draws(device), _interruptible():
        trainer = L.Trainer(
            **_hardware(device), max_steps=spec.config.steps, gradient_clip_val=spec.config.clip, callbacks=callbacks,
            enable_checkpointing=checkpoint is not None, logger=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Stage(module, spec, settings), ckpt_path=found)
    module.to(device).eval()  # Lightning leaves a module on the CPU
    return curve.curve


def _hardware(device: torch.device) -> dict[str, Any]:
    """The Trainer's words for a device."""
    if device.type == "cpu":
        return {"accelerator": "cpu", "devices": 1}
    return {"accelerator": device.type, "devices": [device.index or 0] if device.type == "cuda" else 1}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's notes on hardware and on the end of every training."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _USUAL:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _own_draws(device: torch.device) -> Iterator[None]:
    """Give global random numbers back as they were."""
    before = random.getstate()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(before)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Interrupts stay interrupts: the Trainer turns them into exits, and the process deaf to more of them."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as left:
        if not isinstance(left.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from left
