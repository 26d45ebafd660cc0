"""A few explanations beside the written ones, as a table in TensorBoard."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from tl_nla.errors import InputError
from tl_nla.metrics import cosine


class ExplanationSamples(L.Callback):
    """Logs a table of held-out states: the written explanation, the verbalizer's own, and the cosine of its vector.

    Args:
        every_n_steps: optimiser steps between two tables.
        rows: states a table.
        max_new_tokens: cap of an explanation.
    """

    def __init__(self, every_n_steps: int = 200, rows: int = 8, max_new_tokens: int = 110) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("rows", rows), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise InputError(f"{name} is {value}; at least 1 is needed")
        self.every_n_steps, self.rows, self.max_new_tokens = every_n_steps, rows, max_new_tokens
        self._last = -1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log when the step is due."""
        step = trainer.global_step
        if step == 0 or step % self.every_n_steps or step == self._last or not trainer.is_global_zero:
            return
        self._last = step
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("explanations", self.table(trainer, pl_module), step)

    def table(self, trainer: L.Trainer, module: Any) -> str:
        """The table as Markdown."""
        states = getattr(getattr(trainer, "datamodule", None), "heldout_states", None)
        if states is None:
            raise InputError("ExplanationSamples needs a data module with heldout_states, such as ActivationDataModule")
        acts, written = states.acts[: self.rows], states.explanations[: self.rows]
        modes = [(part, part.training) for part in (module.nla.verbalizer, module.nla.reconstructor)]
        with torch.random.fork_rng():
            said = module.nla.generate(acts.to(module.device), max_new_tokens=self.max_new_tokens)
            found = module.nla.reconstruct(said.texts).to(acts.device)
        for part, training in modes:
            part.train(training)
        lines = ["| written | said | cosine |", "| --- | --- | ---: |"]
        for gold, text, angle in zip(written, said.texts, cosine(found, acts).tolist(), strict=True):
            lines.append(f"| {_cell(gold)} | {_cell(text)} | {angle:.3f} |")
        return "\n".join(lines)


def _cell(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\").replace("|", "\\|")
    return " ".join(escaped.split())
