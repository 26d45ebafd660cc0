"""Runs of the steganography sweep on the embedded world: warm start, reinforcement learning, measures on the way."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from lightning_modules.activations import ActivationDataModule
from lightning_modules.faithfulness import FaithfulnessCallback
from lightning_modules.nla_training import Experience, NLATraining
from lightning_modules.rebuild import run_steps
from lightning_modules.stego_sweep import Point, Run, SweepConfig
from lightning_modules.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tl_nla.faithfulness.perturbations import paraphrase
from tl_nla.nla import NLA
from tl_nla.targets import fresh_nla, load_target


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

    Args:
        references: folders of reconstructors never trained with these verbalizers.
        warm_starts: folder that keeps the warm-started pairs, so that runs with the same one share it.
    """

    def __init__(self, warm_starts: Path, references: Sequence[Path] = ()) -> None:
        self.warm_starts, self.references, self.target = warm_starts, references, load_target()
        self.data: dict[int, Any] = {}

    def __call__(self, run: Run, config: SweepConfig) -> list[Point]:
        """Carry out one run."""
        data = self._data(run.seed, config)
        pair = self._warm_start(run, config, data)
        readers = [NLA.from_pretrained(self._folder(run) / "av", folder).reconstruct for folder in self.references]
        watch = FaithfulnessCallback(
            _first(data.heldout_states, config.held_out),
            data.mean,
            1,
            readers,
            (self.target.model, self.target.tokenizer),
        )
        points = [Point(run, 0, watch.measure(pair))]
        last = max(config.steps)
        if last:
            kind = ParaphrasedTraining if run.paraphrase else NLATraining
            module = kind(
                nla=pair, learning_rate=config.learning_rate, kl_weight=run.kl_weight, seed=run.seed,
                reconstructor_learning_rate=config.reconstructor_learning_rate,
            )  # fmt: skip
            stops = _MeasureAt(watch, set(config.steps), run, points)
            L.Trainer(
                accelerator="cpu", devices=1, max_steps=last, max_epochs=-1, logger=False, enable_checkpointing=False,
                enable_model_summary=False, enable_progress_bar=False, num_sanity_val_steps=0, limit_val_batches=0,
                callbacks=[stops],
            ).fit(module, datamodule=data)  # fmt: skip
        return points

    def _data(self, seed: int, config: SweepConfig) -> Any:
        if seed not in self.data:
            data = ActivationDataModule(
                "tiny", documents=config.documents, batch_size=config.batch_size, seed=seed, positions_per_document=6
            )
            data.setup()
            self.data[seed] = data
        return self.data[seed]

    def _folder(self, run: Run) -> Path:
        return self.warm_starts / f"seed_{run.seed}_steps_{run.warm_steps}"

    def _warm_start(self, run: Run, config: SweepConfig, data: Any) -> NLA:
        folder = self._folder(run)
        if not (folder / "ar").is_dir():
            pair = fresh_nla("tiny", 2, "affine")
            data.batch_size = 64
            for module in (ReconstructorWarmStart(nla=pair), VerbalizerWarmStart(nla=pair)):
                run_steps(module, data, run.warm_steps, run.seed, limit_val_batches=0, enable_progress_bar=False)
            data.batch_size = config.batch_size
            pair.mean = data.mean
            pair.save_pretrained(folder)
        pair = NLA.from_pretrained(folder / "av", folder / "ar", dtype=torch.float32)
        for parameter in pair.parameters():
            parameter.requires_grad_(True)
        return pair


class _MeasureAt(L.Callback):
    """Measures the pair after chosen steps."""

    def __init__(self, watch: FaithfulnessCallback, steps: set[int], run: Run, points: list[Point]) -> None:
        self.watch, self.steps, self.run, self.points = watch, steps, run, points

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Measure when a chosen step is reached."""
        if trainer.global_step in self.steps and self.points[-1].steps != trainer.global_step:
            self.points.append(Point(self.run, trainer.global_step, self.watch.measure(pl_module.nla)))


def _first(states: Any, documents: int) -> Any:
    rows = int((states.document < documents).sum())
    cut = {f.name: getattr(states, f.name)[:rows] for f in dataclasses.fields(states)}
    return dataclasses.replace(states, **cut)
