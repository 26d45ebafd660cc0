"""Remakes the embedded default: target, then the warm-started NLA, each from its seed alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

from docs.studies.nla.run import STORED_ROWS, held_out_states, training_states
from docs.studies.nla.score import NLARows, load_rows, save_rows, score_nla
from docs.studies.tiny.grounding import fit_grounding
from docs.studies.tiny.target import train_target
from docs.studies.tiny.tokenizer import save_tokenizer
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.settings import CorpusConfig, WordsConfig
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import Target, boot_target
from tl_nla.nla import NLA, Reconstructor
from tl_nla.nla.fresh import fresh_nla
from tl_nla.storyworld.documents import world_documents
from tl_nla.storyworld.explained import explain_states
from tl_nla.storyworld.grounding import Grounding
from tl_nla.storyworld.tiny import GROUNDING_FILE

STORED = torch.float16
"""Embedded weights are stored in half precision; everything after the target is trained on the rounded ones."""


@dataclass(frozen=True)
class RebuildConfig:
    """How long each part of the embedded default is trained; the defaults are the shipped ones.

    Attributes:
        target_steps: optimiser steps of the target model.
        documents: stories the NLA is trained on.
        positions: positions of each story.
        reconstructor_steps: steps of the reconstructor's warm start, 64 rows each.
        verbalizer_steps: steps of the verbalizer's warm start, 64 rows each.
        layer: block whose output the NLA explains.
        learning_rate: peak of both warm starts.
    """

    target_steps: int = 1300
    documents: int = 6000
    positions: int = 6
    reconstructor_steps: int = 2000
    verbalizer_steps: int = 2000
    layer: int = 2
    learning_rate: float = 2e-3


def rebuild_target(folder: Path, config: RebuildConfig, **trainer: Any) -> None:
    """Train the target and write it with its tokenizer to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = save_tokenizer(folder)
    model = train_target(tokenizer, config.target_steps, **trainer)
    state = {name: value.to(STORED) for name, value in model.state_dict().items() if name != "lm_head.weight"}
    model.save_pretrained(folder, state_dict=state)


def load_rebuilt(folder: Path) -> Target:
    """The target in ``folder``, ready to be read."""
    return boot_target(str(folder), folder, load_causal_lm(folder, torch.float32), load_tokenizer(folder))


def warm_start_nla(
    target_folder: Path, data: ActivationDataModule, config: RebuildConfig, seed: int, **trainer: Any
) -> NLA:
    """Warm-start a pair on captured states.

    Args:
        target_folder: what both parts are copied from.
        data: states and explanations, set up.
        config: steps and learning rate.
        seed: of the order of rows.
        trainer: further arguments of ``lightning.Trainer``.

    Returns:
        The trained pair.
    """
    nla = fresh_nla(target_folder, config.layer, "affine")
    parts = (
        (ReconstructorWarmStart(nla=nla, learning_rate=config.learning_rate), config.reconstructor_steps),
        (VerbalizerWarmStart(nla=nla, learning_rate=config.learning_rate), config.verbalizer_steps),
    )
    for module, steps in parts:
        run_steps(module, data, steps, seed, **trainer)
    return nla.eval()


def rebuild_nla(
    folder: Path, config: RebuildConfig, seed: int, rows: Path | None = None, **trainer: Any
) -> None:  # fmt: skip
    """Train one pair and its ``cat`` reader, score them on the held-out stories, and store what is needed.

    Seed 0 is the shipped pair (``folder/av``, ``folder/ar``); of every seed the row scores are kept.

    Args:
        folder: holds ``target``; receives the rest.
        config: steps and learning rate.
        seed: of the stream of training stories and the order of rows.
        rows: folder that receives the row scores; ``folder`` when ``None``.
        trainer: further arguments of ``lightning.Trainer``.
    """
    target = load_rebuilt(folder / "target")
    data = capture(target, config, seed, ground(target, folder, config))
    nla = warm_start_nla(folder / "target", data, config, seed, **trainer)
    nla.mean = data.mean
    if seed == 0:
        nla.save_pretrained(folder, STORED)
        nla = NLA.from_pretrained(folder / "av", folder / "ar", dtype=torch.float32)
    reader = train_context_reader(folder / "target", data, config, seed, **trainer)
    point = f"blocks.{config.layer}.hook_resid_post"
    held = held_out_states(target.model, target.tokenizer, point)
    train = training_states(target.model, target.tokenizer, point)
    scores = score_nla(nla, train, held, seed, reader.reconstruct, held.contexts)
    store_rows((rows or folder) / STORED_ROWS.name, scores)


def train_context_reader(
    target_folder: Path, data: ActivationDataModule, config: RebuildConfig, seed: int, **trainer: Any
) -> Reconstructor:
    """A reconstructor that reads raw context instead of explanations, trained exactly alike (the ``cat`` arm)."""
    module = ReconstructorWarmStart(
        nla=fresh_nla(target_folder, config.layer, "affine"), learning_rate=config.learning_rate
    )
    run_steps(module, data.on_contexts(), config.reconstructor_steps, seed, **trainer)
    return module.reconstructor.eval()


def store_rows(path: Path, rows: NLARows) -> None:
    """Put one seed's row scores into the file of all seeds."""
    others = [known for known in load_rows(path) if known.seed != rows.seed] if path.is_file() else []
    save_rows(sorted([*others, rows], key=lambda known: known.seed), path)


def run_steps(module: L.LightningModule, data: Any, steps: int, seed: int, **trainer: Any) -> None:
    """Fit ``module`` for exactly ``steps`` optimiser steps on one CPU process, validating at the end."""
    L.seed_everything(seed, workers=True, verbose=False)
    settings: dict[str, Any] = {
        "accelerator": "cpu", "devices": 1, "max_steps": steps, "max_epochs": -1, "logger": False,
        "enable_checkpointing": False, "enable_model_summary": False, "gradient_clip_val": 1.0,
        "num_sanity_val_steps": 0, "check_val_every_n_epoch": None, "val_check_interval": steps,
    }  # fmt: skip
    L.Trainer(**{**settings, **trainer}).fit(module, datamodule=data)


def ground(target: Target, folder: Path, config: RebuildConfig) -> Grounding:
    """The probes in ``folder``; fitted on training states and stored there when they are missing."""
    path = folder / GROUNDING_FILE
    if not path.is_file():
        point = f"blocks.{config.layer}.hook_resid_post"
        documents = world_documents(config.documents, 0)
        states = explain_states(target.model, target.tokenizer, documents, point, config.positions)
        fit_grounding(states.acts, [truth.facts for truth in states.truths], point).save(path)
    return Grounding.load(path)


def capture(target: Target, config: RebuildConfig, seed: int, grounding: Grounding) -> ActivationDataModule:
    """States of training stories with their explanations."""
    data = ActivationDataModule(
        target.model, target.tokenizer, f"blocks.{config.layer}.hook_resid_post",
        CorpusConfig(documents=config.documents, positions_per_document=config.positions, seed=seed),
        WordsConfig(grounding=grounding),
    )  # fmt: skip
    data.setup()
    return data
