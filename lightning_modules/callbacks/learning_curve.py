"""Learning curves of stages: what a scoring function gives at some steps, or the mean loss between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch

from lightning_modules.training.precision import matmul_precision
from tl_nla.nla.batching import evaluating


@dataclass
class Curve:
    """A learning curve: step counts, and whatever the scoring function gave at each."""

    steps: list[int] = field(default_factory=list)
    scores: list[Any] = field(default_factory=list)


class LearningCurve(L.Callback):
    """Scores a module at some steps of its training.

    Scoring happens in evaluation mode and at full precision. The curve so far is part of every checkpoint.

    Args:
        module: what is scored.
        marks: optimiser steps at which it is scored.
        score: gives a score that JSON can hold; without it a point is the mean training loss since the one before.
    """

    def __init__(self, module: torch.nn.Module, marks: Sequence[int], score: Callable[[], Any] | None = None) -> None:
        self.module, self.marks, self.score = module, frozenset(marks), score
        self.curve = Curve()
        self._loss: torch.Tensor | float = 0.0
        self._batches = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch's loss, and a point where there is a mark."""
        if self.score is None:
            self._loss, self._batches = self._loss + outputs["loss"].detach(), self._batches + 1
        if trainer.global_step not in self.marks or trainer.global_step in self.curve.steps:
            return
        self.curve.steps.append(trainer.global_step)
        self.curve.scores.append(self._point())

    def _point(self) -> Any:
        if self.score is None:
            mean = float(self._loss) / self._batches
            self._loss, self._batches = 0.0, 0
            return [mean]
        with evaluating(self.module), matmul_precision(self.module, "highest"):
            return self.score()

    def state_dict(self) -> dict[str, Any]:
        """The curve so far."""
        found = {"steps": self.curve.steps, "scores": self.curve.scores}
        return {**found, "loss": float(self._loss), "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curve of a checkpoint."""
        self.curve = Curve(list(state_dict["steps"]), list(state_dict["scores"]))
        self._loss, self._batches = state_dict["loss"], state_dict["batches"]
