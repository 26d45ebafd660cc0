"""Runs of the steganography sweep on the embedded world: warm start, reinforcement learning, measures on the way."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from docs.studies.steganography.sweep import Point, Run, SweepConfig
from docs.studies.warm_pairs import WarmPairs, matmul_precision
from lightning_modules.callbacks.faithfulness import FaithfulnessCallback
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.settings import CorpusConfig, ServingConfig, WordsConfig
from lightning_modules.training.nla_training import Experience, NLATraining
from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.benchmark.bootstrap import ratio_interval
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.faithfulness import RidgeReader
from tl_nla.faithfulness.codes import refitted_errors
from tl_nla.faithfulness.perturbations import paraphrase
from tl_nla.faithfulness.scoring import Reconstruct, Scorer
from tl_nla.faithfulness.trust import Terms
from tl_nla.nla import NLA
from tl_nla.nla.rollouts import RolloutConfig
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.documents import world_documents
from tl_nla.storyworld.explained import WorldCapture, explain_states
from tl_nla.storyworld.tiny import embedded_grounding

_SITE = "blocks.2.hook_resid_post"
_CLAIM_STREAM = 20_000_003
"""Stories that the reader of claims is fitted to; no verbalizer is trained on them."""
_CLAIM_DOCUMENTS, _REFIT_DOCUMENTS, _POSITIONS, _MIN_POSITION = 400, 200, 6, 5


class ParaphrasedTraining(NLATraining):
    """Reinforcement learning whose reconstructor reads a paraphrase of every explanation (Dietz's proposal).

    A code in wording or order then earns nothing. Arguments as for :class:`NLATraining`.
    """

    @torch.no_grad()
    def explore(self, acts: Any) -> Experience:
        """Explanations as ever, read in other words and another order."""
        found = super().explore(acts)
        return dataclasses.replace(found, texts=[paraphrase(text, self.batches) for text in found.texts])


class EmbeddedTraining:
    """Runs of the sweep on the embedded world: a warm start of its own, then reinforcement learning.

    Every verbalizer is read by reconstructors that were never trained with it. ``claims`` is a ridge regression on the
    claims of written explanations, ``trained`` the reconstructor of another seed's long warm start.

    Args:
        pairs: the warm starts, shared between runs; trained when they are not there.
        kept: folder that receives the last pair of each run; ``None`` keeps none.
        reference_steps: length of the other seed's warm start.
    """

    def __init__(self, pairs: WarmPairs, kept: Path | None = None, reference_steps: int = 1000) -> None:
        self.pairs, self.kept, self.reference_steps = pairs, kept, reference_steps
        self.data: dict[int, ActivationDataModule] = {}
        self.others: dict[int, Mapping[str, Reconstruct]] = {}
        self._held: ExplainedStates | None = None

    def __call__(self, run: Run, config: SweepConfig) -> list[Point]:
        """Carry out one run."""
        data, pair = self._data(run.seed, config), self.pairs.load(run.seed, run.warm_steps)
        held = self._held_out(config.held_out)
        target = self.pairs.target
        watch = FaithfulnessCallback(
            held, data.mean, references=self._references(run.seed), clean=(target.model, target.tokenizer)
        )
        last = max(config.steps)
        stops = _MeasureAt(watch, set(config.steps), run)
        stops.measure(pair, 0)
        stops.add(self._codes(pair, data, held), 0)
        if last:
            self._reinforce(run, config, pair, data, stops)
            stops.add(self._codes(pair, data, held), last)
        return stops.points

    def _reinforce(self, run: Run, config: SweepConfig, pair: NLA, data: Any, stops: "_MeasureAt") -> None:
        kind = ParaphrasedTraining if run.paraphrase else NLATraining
        module = kind(
            nla=pair, rollouts=RolloutConfig(config.group, config.max_new_tokens),
            rates=RateConfig(run.learning_rate, config.reconstructor_learning_rate, warmup_steps=5),
            policy=PolicyConfig(kl_weight=run.kl_weight, seed=run.seed),
        )  # fmt: skip
        trainer = L.Trainer(
            accelerator="cpu", devices=1, max_steps=max(config.steps), max_epochs=-1, logger=False,
            enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False, num_sanity_val_steps=0,
            limit_val_batches=0, callbacks=[stops],
        )  # fmt: skip
        with matmul_precision(self.pairs.precision):
            trainer.fit(module, datamodule=data)
        pair.eval()
        if self.kept is not None:
            pair.mean = data.mean
            pair.save_pretrained(self.kept / run.name(), torch.float16)

    def _data(self, seed: int, config: SweepConfig) -> ActivationDataModule:
        if seed not in self.data:
            self.data[seed] = ActivationDataModule(
                self.pairs.target.model, self.pairs.target.tokenizer, _SITE,
                CorpusConfig(documents=config.documents, positions_per_document=_POSITIONS, seed=seed),
                WordsConfig(grounding=embedded_grounding()), ServingConfig(config.batch_size),
            )  # fmt: skip
            self.data[seed].setup()
        return self.data[seed]

    def _states(self, documents: int, stream: int) -> ExplainedStates:
        target, stories = self.pairs.target, world_documents(documents, stream)
        return explain_states(
            target.model,
            target.tokenizer,
            stories,
            _SITE,
            _POSITIONS,
            _MIN_POSITION,
            WorldCapture(grounding=embedded_grounding()),
        )

    def _held_out(self, documents: int) -> ExplainedStates:
        if self._held is None:
            self._held = self._states(documents, HELD_OUT_SEED)
        return self._held

    def _references(self, seed: int) -> Mapping[str, Reconstruct]:
        if seed not in self.others:
            read = self._states(_CLAIM_DOCUMENTS, _CLAIM_STREAM)
            claims = RidgeReader.fit(read.explanations, read.acts).reconstruct
            other = self.pairs.load((seed + 2) % 3, self.reference_steps)
            self.others[seed] = {"claims": claims, "trained": other.reconstruct}
        return self.others[seed]

    def _codes(self, pair: NLA, data: ActivationDataModule, held: ExplainedStates) -> Terms:
        states = _first(data.train_states, _REFIT_DOCUMENTS)
        train, told = (_said(pair, acts) for acts in (states.acts, held.acts))
        scorer = Scorer(pair.reconstruct, held.acts, data.mean)
        share = scorer.deviations / scorer.deviations.mean()
        said = refitted_errors(scorer, told, train, states.explanations, states.acts)
        written = refitted_errors(scorer, held.explanations, states.explanations, states.explanations, states.acts)
        return {f"fve_{name}": (share - error, share) for name, error in said.items()} | {
            f"fve_{name}_written": (share - error, share) for name, error in written.items()
        }


def _said(pair: NLA, acts: Tensor) -> list[str]:
    found = pair.generate(acts, max_new_tokens=MAX_NEW_TOKENS)
    return [text if ok else "" for text, ok in zip(found.texts, found.extracted, strict=True)]


class _MeasureAt(L.Callback):
    """Measures the pair after chosen steps."""

    def __init__(self, watch: FaithfulnessCallback, steps: set[int], run: Run) -> None:
        self.watch, self.steps, self.run = watch, steps, run
        self.points: list[Point] = []

    def measure(self, pair: NLA, step: int) -> None:
        """Measure when this step was chosen and was not measured yet."""
        if step in self.steps and step not in (point.steps for point in self.points):
            terms = self.watch.terms(pair)
            self.points.append(Point(self.run, step, _intervals(terms, self.watch.states.document)))

    def add(self, terms: Terms, step: int) -> None:
        """Put further measures to the point of a step, where there is one."""
        more = _intervals(terms, self.watch.states.document)
        self.points = [
            dataclasses.replace(point, measures=point.measures | more) if point.steps == step else point
            for point in self.points
        ]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Measure when a chosen step is reached."""
        self.measure(pl_module.nla, trainer.global_step)


def _intervals(terms: Terms, document: Tensor) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name, (top, bottom) in terms.items():
        try:
            interval = ratio_interval(top, bottom, document, generator=torch.Generator().manual_seed(0))
        except InputError:  # nothing was said that could be counted
            continue
        numbers = (interval.value, interval.low, interval.high)
        if all(abs(number) < float("inf") for number in numbers):
            value, low, high = (round(number, 5) for number in numbers)
            found[name] = (value, low, high)
    return found


def _first(states: Any, documents: int) -> Any:
    rows = int((states.document < documents).sum())
    cut = {f.name: getattr(states, f.name)[:rows] for f in dataclasses.fields(states)}
    return dataclasses.replace(states, **cut)
