"""The oracle's side: writes of heads and MLPs, told in words."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.subject import Sizes, clusters, private_split
from tl_nla.data import Document
from tl_nla.model.targets import Target
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import CaptureConfig, LabelledWrites, capture_writes, label_text

GROUP = 10
"""Writes of one document that are candidates for each other."""
_POSITIONS = 2
_MOST = (120, 10, 30)
"""Documents of each part at most: ten writes of each are told."""


@dataclass(frozen=True)
class WriteMaterial:
    """Writes with what is true of them.

    Attributes:
        rows: the writes, ten of each document.
        labelled: their labels and answers, row by row.
        gold: the label as a sentence that does not name the component.
    """

    rows: Rows
    labelled: LabelledWrites
    gold: list[str]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class WriteSubject:
    """A model's writes in texts that the oracle was not trained on.

    Attributes:
        target: the model.
        train: what readers and probes are fitted on.
        calibration: what a reader's trust in an arm is fitted on.
        test: what is scored.
        seed: the private one.
    """

    target: Target
    train: WriteMaterial
    calibration: WriteMaterial
    test: WriteMaterial
    seed: int


def capture_write_subject(
    target: Target, documents: Sequence[Document], sizes: Sizes, seed: int, vocabulary: Any = None, skips: bool = True
) -> WriteSubject:
    """Read writes of all heads and MLPs at two positions a document, and keep ten of each.

    Args:
        target: the model.
        documents: held-out texts.
        sizes: documents of ``train`` and ``test``; see :class:`tl_nla.benchmark.verbalizers.subject.Sizes`.
        seed: of the split and every draw.
        vocabulary: words that labels may name.
        skips: whether the effect of leaving a write out is measured.
    """
    few = replace(
        sizes, train=min(sizes.train, _MOST[0]), calibration=min(sizes.calibration, _MOST[1]),
        test=min(sizes.test, _MOST[2]),
    )  # fmt: skip
    config = CaptureConfig(_POSITIONS, skips=skips, seed=seed)
    names = ("write_train", "write_calibration", "write_test")
    parts = zip(names, private_split(documents, few, seed), strict=True)
    train, calibration, test = [_material(target, name, part, config, vocabulary) for name, part in parts]
    return WriteSubject(target, train, calibration, test, seed)


def _material(
    target: Target, name: str, documents: list[Document], config: CaptureConfig, vocabulary: Any
) -> WriteMaterial:
    cfg, sites = target.model.cfg, []
    for layer in range(int(cfg.n_layers)):
        sites += [f"blocks.{layer}.attn.head.{head}" for head in range(int(cfg.n_heads))] + [f"blocks.{layer}.mlp"]
    rng = random.Random(f"{config.seed}/{name}")
    drawn = rng.sample(sites, min(len(sites), 2 * GROUP))
    captured = capture_writes(target.model, target.tokenizer, documents, drawn, config, vocabulary)
    captured = captured.with_strength(captured.reference())
    rows = []
    for number in captured.document.unique().tolist():
        own = torch.nonzero(captured.document == number).flatten().tolist()
        rows += rng.sample(own, GROUP) if len(own) >= GROUP else []
    kept = captured.select(torch.tensor(rows))
    encode = TextEncoder(target.tokenizer, target.model)
    encoded = {row: encode(documents[row].text).ids for row in kept.document.unique().tolist()}
    past = [
        encoded[row][: place + 1] for row, place in zip(kept.document.tolist(), kept.position.tolist(), strict=True)
    ]
    named = tuple(kept.sites[site] for site in kept.site.tolist())
    gold = [label_text(replace(label, component=None)) for label in kept.labels]
    whole = clusters(documents, kept.document)
    return WriteMaterial(Rows(name, kept.write, past, whole, kept.before, named), kept, gold)
