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
_MOST = (80, 10, 30)
"""Documents of each part at most: ten writes of each are told, and readers are fitted on all writes of the first."""
_SITES = {"head": 12, "attn": 4, "mlp": 4}
"""Components of each kind, drawn by the seed."""


@dataclass(frozen=True)
class WriteMaterial:
    """Writes with what is true of them.

    Attributes:
        rows: the writes, ten of each document in turn; all that were captured where readers are fitted.
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
    """Read writes of heads, attentions and MLPs at two positions a document, and keep ten of each.

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
    sites = _drawn_sites(target, seed)
    train, calibration, test = [_material(target, name, part, (sites, config), vocabulary) for name, part in parts]
    return WriteSubject(target, train, calibration, test, seed)


def _drawn_sites(target: Target, seed: int) -> list[str]:
    """The same components in all parts: their means are known."""
    cfg, rng = target.model.cfg, random.Random(f"{seed}/sites")
    layers = range(int(cfg.n_layers))
    known = {
        "head": [f"blocks.{layer}.attn.head.{head}" for layer in layers for head in range(int(cfg.n_heads))],
        "attn": [f"blocks.{layer}.attn" for layer in layers], "mlp": [f"blocks.{layer}.mlp" for layer in layers],
    }  # fmt: skip
    return [site for kind, own in known.items() for site in rng.sample(own, min(len(own), _SITES[kind]))]


def _material(
    target: Target, name: str, documents: list[Document], how: tuple[list[str], CaptureConfig], vocabulary: Any
) -> WriteMaterial:
    sites, config = how
    rng = random.Random(f"{config.seed}/{name}")
    captured = capture_writes(target.model, target.tokenizer, documents, sites, config, vocabulary)
    captured = captured.with_strength(captured.reference())
    rows = []
    for number in captured.document.unique().tolist():
        own = torch.nonzero(captured.document == number).flatten().tolist()
        rows += own if name == "write_train" else rng.sample(own, GROUP) if len(own) >= GROUP else []
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
