"""A few explanations beside the written ones, as a table in TensorBoard."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_modules.sharding import gathered
from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.markdown import escape
from tl_nla.metrics import cosine, squared_deviations, squared_errors

_SHOWN = 2000
"""Characters of an explanation that the table shows."""


class ExplanationSamples(L.Callback):
    """Logs held-out states, or writes: the written explanation, the verbalizer's own, and how well its vector fits.

    Beside the table goes the scalar ``explanations/fve``, the FVE of the rows in it against the training set's mean.
    The words are greedy; explanations that could not be extracted count as an error of 2. The rows are few: for a
    number to report, use ``val/fve``.

    Args:
        every_n_steps: optimiser steps between two tables.
        rows: states a table.
        max_new_tokens: cap of an explanation.
    """

    def __init__(self, every_n_steps: int = 200, rows: int = 8, max_new_tokens: int = 110) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("rows", rows), ("max_new_tokens", max_new_tokens)):
            check_count(name, value)
        self.every_n_steps, self.rows, self.max_new_tokens = every_n_steps, rows, max_new_tokens
        self._last = -1

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that there are a pair that explains and rows to explain, before the first table is due.

        Raises:
            InputError: when one of them is missing.
        """
        if stage == "fit" and not hasattr(pl_module, "nla"):
            raise InputError(
                f"ExplanationSamples shows words of a module with .nla; {type(pl_module).__name__} has none"
            )
        if stage == "fit":
            _rows_of(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log when the step is due."""
        step = trainer.global_step
        if step == 0 or step % self.every_n_steps or step == self._last:
            return
        self._last = step
        with gathered(pl_module):
            if trainer.is_global_zero:
                self._log(trainer, pl_module, step)

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule, step: int) -> None:
        writers = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if writers:
            table, fraction = self.table(trainer, pl_module)
            for writer in writers:
                writer.add_text("explanations", table, step)
                writer.add_scalar("explanations/fve", fraction, step)

    def table(self, trainer: L.Trainer, module: Any) -> tuple[str, float]:
        """The table as Markdown, and the FVE of its rows.

        Raises:
            InputError: when the data module has no held-out rows to show.
        """
        data = _rows_of(trainer)
        acts, written = data.heldout_rows(self.rows)
        modes = [(part, part.training) for part in (module.nla.verbalizer, module.nla.reconstructor)]
        with torch.random.fork_rng():
            said = module.nla.generate(acts.to(module.device), max_new_tokens=self.max_new_tokens)
            found = module.nla.reconstruct(said.texts).to(acts.device)
        for part, training in modes:
            part.train(training)
        extracted = said.extracted.to(acts.device)
        truth = module.targets(acts) if hasattr(module, "targets") else acts
        shares = 1 - squared_errors(found, truth, ~extracted) / squared_deviations(truth, data.mean).mean()
        lines = ["| written | said | cosine | FVE |", "| --- | --- | ---: | ---: |"]
        columns = (written, said.texts, cosine(found, truth).tolist(), shares.tolist())
        for gold, text, angle, share in zip(*columns, strict=True):
            lines.append(f"| {escape(gold, _SHOWN)} | {escape(text, _SHOWN)} | {angle:.3f} | {share:.3f} |")
        fraction = float(shares.mean())
        lines.append(f"| | all {len(written)} rows | | {fraction:.3f} |")
        return "\n".join(lines), fraction


def _rows_of(trainer: L.Trainer) -> Any:
    data: Any = getattr(trainer, "datamodule", None)
    if not hasattr(data, "heldout_rows"):
        raise InputError("ExplanationSamples needs a data module with heldout_rows, such as ActivationDataModule")
    return data
