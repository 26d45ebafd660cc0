"""Contribution reports while a model trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_modules.outputs import fast_dev_run
from lightning_modules.sharding import gathered
from tl_nla.errors import InputError
from tl_nla.model.positions import Positions
from tl_nla.reports import ContributionReport, ReportConfig, layer_contributions

FROM_MODULE = "module"


@dataclass(frozen=True)
class ShownConfig:
    """What is shown of each prompt.

    Attributes:
        target: the explained token; the model's likeliest when ``None``.
        positions: as for :func:`tl_nla.reports.layer_contributions`.
        images: whether heat maps are drawn; without matplotlib they are left out with a warning.
    """

    target: str | None = None
    positions: Positions = -1
    images: bool = True


class ContributionReportCallback(L.Callback):
    """Writes contribution reports of fixed prompts to TensorBoard every few steps, on rank zero only.

    The model that is looked into is kept outside of the trained module, so no checkpoint and no strategy sees it.

    Args:
        prompts: texts, or texts by name; names are the tags.
        every_n_steps: optimiser steps between two reports; one more is written at the end of the training.
        model: ``"tiny"``, a local folder, a hub id, or a TransformerLens model.
        tokenizer: of a model given as an object that carries none; goes before that of the ``config``.
        oracle: who explains: a :class:`tl_nla.oracle.DiffOracle`, ``"module"`` for the ``oracle`` of the module in
            training (labels when it has none), or ``None`` for labels.
        shown: which prediction is explained, and whether it is drawn.
        config: what the reports tell. Its ``explain`` holds settings for ``oracle.explain``, such as
            ``max_new_tokens``; they are left aside where no oracle explains.

    Attributes:
        reports: the last report of each prompt, on rank zero.

    Raises:
        InputError: for no prompts or a bad ``every_n_steps``; when the training starts, for a trainer without a
            TensorBoard logger.

    Example:
        ``ContributionReportCallback({"colour": text}, shown=ShownConfig(" red"), config=ReportConfig(skips=False))``
    """

    def __init__(
        self, prompts: Sequence[str] | Mapping[str, str], every_n_steps: int = 500, model: Any = "tiny",
        tokenizer: Any = None, oracle: Any = FROM_MODULE, *, shown: ShownConfig | None = None,
        config: ReportConfig | None = None,
    ) -> None:  # fmt: skip
        if isinstance(prompts, str) or not prompts:
            raise InputError("prompts must be a list of texts or a mapping of names to texts, with at least one text")
        if isinstance(every_n_steps, bool) or every_n_steps < 1:
            raise InputError(f"every_n_steps is {every_n_steps}; at least 1 step must lie between two reports")
        named = prompts if isinstance(prompts, Mapping) else {f"prompt_{i}": text for i, text in enumerate(prompts)}
        self.prompts, self.every_n_steps = dict(named), every_n_steps
        self.model, self.oracle = model, oracle
        self.shown, self.config = shown or ShownConfig(), config or ReportConfig()
        self.tokenizer = self.config.tokenizer if tokenizer is None else tokenizer
        self.reports: dict[str, ContributionReport] = {}
        self._last_step = -1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Load the model and describe the page of curves."""
        if not trainer.is_global_zero:
            return
        from tl_nla.reports.tensorboard.log import log_layout

        writer = _writer(trainer)
        self._load()
        if writer is not None:
            log_layout(writer, list(self.prompts))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report when the step is due; under gradient accumulation once for each optimiser step."""
        step = trainer.global_step
        if step % self.every_n_steps == 0 and step != self._last_step:
            self._shared_report(trainer, pl_module, step // self.every_n_steps - 1, False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last report, with the writes for the projector."""
        self._shared_report(trainer, pl_module, trainer.global_step // self.every_n_steps, True)

    def _shared_report(self, trainer: L.Trainer, pl_module: L.LightningModule, number: int, last: bool) -> None:
        """The first process reports; weights that are shared out are gathered by all."""
        with gathered(pl_module):
            if trainer.is_global_zero:
                self._report(trainer, pl_module, trainer.global_step, number, last)
        self._last_step = trainer.global_step

    def _load(self) -> None:
        if isinstance(self.model, str):
            from tl_nla.model.targets import load_target

            target = load_target(self.model)
            self.model, self.tokenizer = target.model, self.tokenizer or target.tokenizer

    def _report(self, trainer: L.Trainer, pl_module: L.LightningModule, step: int, number: int, last: bool) -> None:
        from tl_nla.reports.tensorboard.log import LogConfig, log_report, log_writes

        oracle = getattr(pl_module, "oracle", None) if self.oracle == FROM_MODULE else self.oracle
        config = replace(self.config, tokenizer=self.tokenizer)
        config = replace(config, explain={}) if oracle is None else config
        shown, how = self.shown, LogConfig(images=self.shown.images)
        for name, prompt in self.prompts.items():
            report = layer_contributions(self.model, prompt, oracle, shown.target, shown.positions, config)
            self.reports[name] = report
            if fast_dev_run(trainer):
                continue
            if step != self._last_step:
                log_report(_writer(trainer), report, step, name, number=number, how=how)
            if last:
                log_writes(_writer(trainer), report, step, name)


def _writer(trainer: L.Trainer) -> Any:
    """TensorBoard's writer; ``None`` in ``fast_dev_run``, where Lightning takes the loggers away."""
    if fast_dev_run(trainer):
        return None
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            return logger.experiment
    raise InputError("contribution reports need a TensorBoard logger; give Trainer(logger=TensorBoardLogger(folder))")
