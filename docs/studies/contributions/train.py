"""Words-only recovery measured: readers of explanations and of raw context, trained alike, all arms scored alike."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

from docs.studies.contributions.recoveries import Recoveries, recovery, save_recoveries
from docs.studies.contributions.run import STORED
from lightning_modules.data.served import captured
from lightning_modules.data.settings import CorpusConfig
from lightning_modules.training.contribution import ContributionDataModule, FittingConfig, LayerContribution
from tl_nla.benchmark.arms import shuffle_across_documents
from tl_nla.benchmark.oracle_texts import readable
from tl_nla.benchmark.words_only import WrittenResiduals, context_texts, divergence, output_logits, rebuild
from tl_nla.errors import InputError
from tl_nla.oracle import DiffOracle
from tl_nla.storyworld.tiny import WEIGHTS

SEEDS = (100, 101, 102)
"""Streams of stories that the embedded oracle was not trained on: its own is that of seed 0."""


@dataclass(frozen=True)
class WordsOnlyConfig:
    """How the readers are trained; the defaults are those of the stored runs.

    Attributes:
        documents: stories that are read; a tenth is held out.
        steps: optimiser steps of each reader, 8 positions each with a text for every head and MLP.
        learning_rate: of Muon.
        sum_weight: weight of the KL of the sum in the loss.
        own_words: share of the training positions at which the reader of explanations reads the oracle's own words in
            the place of the labels.
    """

    documents: int = 1200
    steps: int = 450
    learning_rate: float = 0.01
    sum_weight: float = 0.1
    own_words: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.own_words <= 1:
            raise InputError(f"own_words is {self.own_words}; allowed: a share from 0 to 1")


QUICK = WordsOnlyConfig(documents=20, steps=2)
"""A test of the path."""


def explained_texts(explainer: DiffOracle, residuals: WrittenResiduals, rows: Sequence[int]) -> list[list[str]]:
    """What the oracle says, greedily, of every write of some positions."""
    chosen = list(rows)
    writes, before = residuals.writes[chosen].flatten(0, 1), residuals.before[chosen].flatten(0, 1)
    said = readable(explainer.reconstructor, explainer.explain(writes, before))
    count = len(residuals.sites)
    return [said[start : start + count] for start in range(0, len(said), count)]


def training_texts(
    data: ContributionDataModule, kind: str, share: float, explainer: DiffOracle | None
) -> tuple[list[list[str]], list[list[str]]]:
    """Texts of both splits of one kind; for ``gold`` a share of the training positions in the oracle's own words.

    Args:
        data: captured.
        kind: ``"gold"`` or ``"cat"``.
        share: of the training positions that get the oracle's words.
        explainer: the oracle; without one all are labels.
    """
    train, held = captured(data.train_residuals), captured(data.heldout_residuals)
    if kind == "cat":
        model, tokenizer = data.load_target()
        context = int(model.cfg.n_ctx)
        return (context_texts(tokenizer, data.train_documents, train, context),
                context_texts(tokenizer, data.heldout_documents, held, context))  # fmt: skip
    texts = list(train.texts)
    if explainer is not None and share:
        drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(data.seed))
        rows = drawn[: round(share * len(train))].tolist()
        for row, said in zip(rows, explained_texts(explainer, train, rows), strict=True):
            texts[row] = said
    return texts, held.texts


def train_words_only(
    data: ContributionDataModule, kind: str, config: WordsOnlyConfig, explainer: DiffOracle | None = None,
    oracle: DiffOracle | None = None,
) -> tuple[LayerContribution, list[list[str]]]:  # fmt: skip
    """Train one reader of one kind of text.

    Args:
        data: captured.
        kind: ``"gold"`` (explanations) or ``"cat"``.
        config: settings.
        explainer: whose words are read beside the labels.
        oracle: whose reconstructor is trained; a fresh one made from the target when ``None``.

    Returns:
        The module, and the held-out texts of this kind.
    """
    texts, held = training_texts(data, kind, config.own_words, explainer)
    served = copy.copy(data)
    served.train_texts, served.heldout_texts = texts, held
    L.seed_everything(data.seed, workers=True, verbose=False)
    module = LayerContribution(
        fitting=FittingConfig(config.learning_rate, optimizer="muon", sum_weight=config.sum_weight), oracle=oracle,
        target=data.load_target()[0], tokenizer=data.load_target()[1],
    )  # fmt: skip
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=config.steps, max_epochs=-1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=served)
    module.reconstructor.eval()
    return module, held


def measure_recoveries(
    data: ContributionDataModule, config: WordsOnlyConfig, explainer: DiffOracle | None = None
) -> Recoveries:
    """Train the readers of explanations and of raw context alike and score all arms on the same held-out positions.

    Args:
        data: captured here when it was not before.
        config: settings.
        explainer: an oracle whose greedy explanations are scored, too (arm ``explanation``), by the reader of labels
            and, at a share of the training positions, of its words.
    """
    data.setup()
    held, mean, model = captured(data.heldout_residuals), captured(data.train_residuals).mean, data.load_target()[0]
    found = Recoveries(data.seed, held.document)
    module, texts = train_words_only(data, "gold", config, explainer)
    read = {"gold": texts}
    if explainer is not None:
        read["explanation"] = explained_texts(explainer, held, range(len(held)))
    rebuilt = {arm: rebuild(module.reconstructor, listed) for arm, listed in read.items()}
    said = rebuilt.get("explanation", rebuilt["gold"])
    other = shuffle_across_documents(held.document, data.seed)
    rebuilt |= {"shuffled": said[other], "shuffled_writes": held.writes[other]}
    module, texts = train_words_only(data, "cat", config)
    rebuilt["cat"] = rebuild(module.reconstructor, texts)
    for arm, vectors in rebuilt.items():
        found.kl[arm], found.same[arm] = recovery(model, held, vectors, mean)
    add_constant(found, model, captured(data.train_residuals), held)
    return found


def add_constant(found: Recoveries, model: Any, train: WrittenResiduals, held: WrittenResiduals) -> None:
    """Add the arm ``constant``: the mean prediction of the training positions, whatever is read."""
    usual = output_logits(model, train.final).double().softmax(-1).mean(0).log().float()
    clean = output_logits(model, held.final)
    kl = divergence(clean, usual.expand_as(clean))
    layers = len(found.kl["gold"]) - 1
    found.kl["constant"] = torch.stack([found.kl["gold"][0], *[kl] * layers])
    found.same["constant"] = (clean.argmax(-1) == usual.argmax()).expand(layers + 1, -1)


def rebuild_recoveries(
    seeds: Sequence[int] = SEEDS, explainer: DiffOracle | None = None, config: WordsOnlyConfig | None = None,
    folder: Path = WEIGHTS, rows: Path | None = None, **settings: Any,
) -> None:  # fmt: skip
    """Train and score all seeds and store their rows.

    Args:
        seeds: of stories and training.
        explainer: the oracle; that in ``folder`` when ``None``.
        config: settings of the training.
        folder: holds the oracle.
        rows: folder that receives the row scores; ``folder`` when ``None``.
        settings: for :class:`ContributionDataModule`.
    """
    config = config or WordsOnlyConfig()
    explainer = explainer or DiffOracle.from_pretrained(folder / "oracle")
    parts: list[Recoveries] = []
    for seed in seeds:
        data = ContributionDataModule(corpus=CorpusConfig(documents=config.documents, seed=seed), **settings)
        parts.append(measure_recoveries(data, config, explainer))
        save_recoveries(parts, (rows or folder) / STORED.name)
