"""What a stage leaves while it runs: a checkpoint to go on from, and word of how far it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

_CHECKPOINTS, _TOLD = 20, 100


class StageCheckpoint(Checkpoint):
    """Writes a stage's one checkpoint now and then, over the one before, and never at the end.

    Args:
        path: of the checkpoint.
        every: steps between two; a twentieth of the stage when ``None``.
    """

    def __init__(self, path: Path, every: int | None = None) -> None:
        self.path, self.every, self.dirpath = path, every, str(path.parent)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write it where it is due."""
        every, step = self.every or max(1, trainer.max_steps // _CHECKPOINTS), trainer.global_step
        if step % every == 0 and step < trainer.max_steps:
            trainer.save_checkpoint(self.path, weights_only=False)


class StageProgress(L.Callback):
    """Tells how far a stage is, a hundred times at most.

    Args:
        tell: takes the steps done and all steps; it is also told where the stage starts.
    """

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self.tell = tell

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell where the stage starts: behind its checkpoint, where there is one."""
        self.tell(trainer.global_step, trainer.max_steps)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell where a hundredth is done."""
        if trainer.global_step % max(1, trainer.max_steps // _TOLD) == 0:
            self.tell(trainer.global_step, trainer.max_steps)
