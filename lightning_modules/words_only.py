"""Words-only recovery measured: readers of labels and of raw context, trained alike, all arms scored alike."""

from collections.abc import Sequence
from typing import Any

import lightning as L

from lightning_modules.contribution import TEXTS, ContributionDataModule, LayerContribution, known
from tl_nla.attribution.words_only import rebuild, recovery
from tl_nla.errors import InputError
from tl_nla.evaluation.contributions_suite import STORED, Recoveries, save_recoveries
from tl_nla.evaluation.nla_rows import shuffle_across_documents
from tl_nla.oracle import DiffOracle


def train_words_only(
    kind: str, seed: int, steps: int, documents: int = 2500, sum_weight: float = 0.1, oracle: DiffOracle | None = None
) -> tuple[LayerContribution, ContributionDataModule]:
    """Train one reader of one kind of text on the embedded default.

    Args:
        kind: ``"gold"`` or ``"cat"``.
        seed: of the data and the order.
        steps: optimiser steps of 8 positions, each with a text for every head and MLP.
        documents: stories that are read; a tenth is held out.
        sum_weight: of :class:`LayerContribution`.
        oracle: whose reconstructor is trained; a fresh one made from the target when ``None``.
    """
    L.seed_everything(seed, workers=True)
    data = ContributionDataModule(texts=kind, documents=documents, seed=seed)
    module = LayerContribution(sum_weight=sum_weight, oracle=oracle)
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    module.reconstructor.eval()
    return module, data


def measure_recoveries(
    seed: int, steps: int = 1500, documents: int = 2500, explainer: DiffOracle | None = None
) -> Recoveries:
    """Train the readers of labels and of raw context alike and score all arms on the same held-out positions.

    Args:
        seed: of data and training.
        steps: of each training.
        documents: stories that are read.
        explainer: an oracle whose greedy explanations are scored, too (arm ``explanation``), read by the reader that
            was trained on labels.
    """
    found: Recoveries | None = None
    for kind in TEXTS:
        module, data = train_words_only(kind, seed, steps, documents)
        held, mean, model = known(data.heldout_residuals), known(data.train_residuals).mean, module.target()[0]
        found = found or Recoveries(seed, held.document)
        rebuilt = {kind: rebuild(module.reconstructor, data.heldout_texts)}
        if kind == "gold":
            rebuilt["shuffled"] = rebuilt["gold"][shuffle_across_documents(held.document, seed)]
            if explainer is not None:
                writes, before = held.writes.flatten(0, 1), held.before.flatten(0, 1)
                said = explainer.explain(writes, before)
                texts = [said[row : row + len(held.sites)] for row in range(0, len(said), len(held.sites))]
                rebuilt["explanation"] = rebuild(module.reconstructor, texts)
        for arm, vectors in rebuilt.items():
            found.kl[arm], found.same[arm] = recovery(model, held, vectors, mean)
    if found is None:
        raise InputError("no kind of text was trained")
    return found


def rebuild_recoveries(seeds: Sequence[int] = (0, 1, 2), explainer: DiffOracle | None = None, **settings: Any) -> None:
    """Train and score all seeds and store their rows for ``tl-nla evaluate contributions``."""
    parts: list[Recoveries] = []
    for seed in seeds:
        parts.append(measure_recoveries(seed, explainer=explainer, **settings))
        save_recoveries(parts, STORED)
