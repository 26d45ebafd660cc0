"""Lightning's progress bar, which counts to the end of the training."""

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console
from rich.progress import ProgressColumn, Task
from rich.text import Text

from tl_nla.data.progress import Lines


class StepBar(RichProgressBar):
    """Shows step n of N, the share in percent, and the time left, over all epochs.

    Lightning's own bar starts again with every epoch. ``tl-nla fit`` and its siblings use this one, unless the
    configuration names a bar among its callbacks. Where the output is no terminal, a line is written every half minute.

    Args:
        settings: of ``RichProgressBar``.

    Example:
        >>> L.Trainer(max_steps=1000, callbacks=[StepBar()]).fit(module, data)
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._lines: Lines | None = None

    @property
    def total_train_batches(self) -> int | float:
        """Steps, or batches, of the whole training; infinite where nothing but a time limit ends it."""
        return _counted(self.trainer)[1]

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        """Lightning's columns and the percentage."""
        description, bar, counted, *others = super().configure_columns(trainer)
        return [description, bar, counted, _Percent(), *others]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar, or begin to write lines."""
        super().on_train_start(trainer, pl_module)
        console = get_console()  # which the bar has set up
        self._lines = Lines(console, ends=True) if self.is_enabled and not console.is_terminal else None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One bar for all epochs."""
        if self.train_progress_bar_id is None:
            super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show what is done of the whole."""
        done, total = _counted(trainer)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, done - 1)
        if self._lines is not None:
            self._lines(_name(trainer), done, int(total) if math.isfinite(total) else 0)

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{_name(self.trainer):{len(self.validation_description)}}"


class _Percent(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.percentage:.0f}%" if task.total and math.isfinite(task.total) else "")


def _by_steps(trainer: L.Trainer) -> bool:
    """Whether ``max_steps`` ends the training, and not ``max_epochs``."""
    return 0 < trainer.max_steps <= _batches(trainer)


def _batches(trainer: L.Trainer) -> int | float:
    epochs = trainer.max_epochs
    return epochs * trainer.num_training_batches if epochs is not None and epochs > 0 else math.inf


def _name(trainer: L.Trainer) -> str:
    return "step" if _by_steps(trainer) else "batch"


def _counted(trainer: L.Trainer) -> tuple[int, int | float]:
    """What is done and all there is: steps, or batches where the number of epochs ends the training."""
    if _by_steps(trainer):
        return trainer.global_step, trainer.max_steps
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready, _batches(trainer)
