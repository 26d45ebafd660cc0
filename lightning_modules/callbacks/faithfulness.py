"""Faithfulness while a pair is trained: do retention, truth and openness to other readers fall as FVE rises?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.sharding import gathered
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.faithfulness.perturbations import Perturbation, paraphrase
from tl_nla.faithfulness.scoring import Reconstruct
from tl_nla.faithfulness.trust import PairWords, Terms, average, pair_terms
from tl_nla.nla import NLA


@dataclass(frozen=True)
class WordMeasures:
    """What is measured of words.

    Attributes:
        truths_known: whether the states' truths are true (stories of the embedded world).
        perturbation: a rewording that keeps the meaning.
        max_new_tokens: cap of an explanation.
    """

    truths_known: bool = True
    perturbation: Perturbation = paraphrase
    max_new_tokens: int = MAX_NEW_TOKENS


class FaithfulnessCallback(L.Callback):
    """Explains the same states every so many steps and measures whether the words can still be believed.

    Works with any module that has the pair as ``nla``. Values are logged (when the Trainer has a logger) and kept in
    ``history``. They are ``faithfulness/fve`` and ``/retention`` (FVE of paraphrased words over FVE), and
    ``/claim_precision`` where the truth is known. With references comes ``/cross_reconstructor_gap/KIND``, with a clean
    model ``/legibility`` (nats a token). The same is logged for the written words;
    :func:`tl_nla.faithfulness.trust.pair_terms` names them all.

    Args:
        states: held-out states with their truths; a hundred are enough for a curve.
        mean: the training set's mean of normalised states; the pair's own when ``None``.
        every: steps of the optimiser between measurements; the first is before training, the last after it.
        references: reconstructors that are never trained with this verbalizer, by kind.
        clean: TransformerLens model and tokenizer that the training leaves alone.
        measures: what is measured of the words, and how long they are.
    """

    def __init__(
        self, states: ExplainedStates, mean: Float[Tensor, " d_model"] | None = None, every: int = 50,
        references: Mapping[str, Reconstruct] | None = None, clean: tuple[Any, Any] | None = None,
        measures: WordMeasures | None = None,
    ) -> None:  # fmt: skip
        if every < 1:
            raise InputError(f"every is {every}; allowed: a number of steps, at least 1")
        self.states, self.mean, self.every = states, mean, every
        self.references, self.clean, self.measures = dict(references or {}), clean, measures or WordMeasures()
        self.history: list[dict[str, float]] = []
        self._last = -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure where the training starts from."""
        self._measure(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure every so many steps."""
        if trainer.global_step and trainer.global_step % self.every == 0:
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure where the training ends."""
        self._measure(trainer, pl_module)

    def _measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._last == trainer.global_step:
            return
        self._last = trainer.global_step
        with gathered(pl_module):
            if trainer.is_global_zero:
                self._note(trainer, pl_module)

    def _note(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        nla = getattr(pl_module, "nla", None)
        if not isinstance(nla, NLA):
            raise InputError(f"{type(pl_module).__name__} has no pair as 'nla', which FaithfulnessCallback measures")
        found = self.measure(nla)
        self.history.append({"step": float(trainer.global_step), **found})
        for logger in trainer.loggers:
            logger.log_metrics({f"faithfulness/{name}": value for name, value in found.items()}, trainer.global_step)

    @torch.no_grad()
    def measure(self, nla: NLA) -> dict[str, float]:
        """The measures of a pair as it is now; it is left as it is."""
        return average(self.terms(nla))

    @torch.no_grad()
    def terms(self, nla: NLA) -> Terms:
        """The same row by row, for intervals; see :func:`tl_nla.faithfulness.trust.pair_terms`."""
        mean = self.mean if self.mean is not None else nla.mean
        if mean is None:
            raise InputError("the training-set mean is not known: give FaithfulnessCallback(mean=...)")
        words = PairWords.of(
            nla, self.states, mean, self.references, self.measures.max_new_tokens,
            perturbation=self.measures.perturbation, clean=self.clean, truths_known=self.measures.truths_known,
        )  # fmt: skip
        return pair_terms(words)
