"""What all parts of the study on SmolLM2's words read: the shipped oracle, and kept writes of both sides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from docs.studies.lines import draws
from docs.studies.smollm2.fit import captured, site_writes
from docs.studies.smollm2.writes import SiteWrites
from tl_nla.benchmark.bootstrap import fve_interval
from tl_nla.metrics import normalise
from tl_nla.model.targets import load_target
from tl_nla.oracle.words import WordCode, WordOracle
from tl_nla.smollm2.oracle import shipped_oracle

LENGTHS = (4, 8, 16)
FIXED = (3, 15, 27)
"""Layers of the attentions and MLPs that are fitted anew."""


@dataclass(frozen=True)
class Sides:
    """The oracle, training writes, held-out writes.

    Attributes:
        target: model and tokenizer.
        oracle: as it ships.
        train: writes that it was fitted to.
        held: writes of held-out documents.
        corpus: folder of the corpus.
        keep: folder of kept writes.
    """

    target: Any
    oracle: WordOracle
    train: SiteWrites
    held: SiteWrites
    corpus: Path
    keep: Path

    @classmethod
    def load(cls, corpus: Path, keep: Path, every: int, side: str = "fresh") -> "Sides":
        """Read them; one of ``every`` held-out rows of a side is used."""
        target = load_target("smollm2")
        train, held = (site_writes(captured(corpus, keep, name), target) for name in ("train", side))
        held = SiteWrites(held.rows.every(every), held.out)
        return cls(target, shipped_oracle(target.model), train, held, corpus, keep)

    @property
    def document(self) -> Tensor:
        """Of each held-out row."""
        return self.held.rows.document


def one_head_a_layer(layers: int, heads: int) -> list[str]:
    """A head of each layer, drawn once."""
    drawn = torch.randint(heads, (layers,), generator=torch.Generator().manual_seed(0)).tolist()
    return [f"blocks.{layer}.attn.head.{head}" for layer, head in enumerate(drawn)]


def square(truth: Tensor, guess: Tensor) -> Tensor:
    """Squared error of each row."""
    return (truth.double() - guess.double()).square().sum(1)


def by_words(code: WordCode, site: int, write: Tensor) -> dict[int, Tensor]:
    """Squared errors of a code's words at each length; the component is given, and writes have norm √d_model."""
    truth = normalise(write)
    word, level = code.choose(site, write, max(LENGTHS))
    return {words: square(truth, normalise(code.rebuild(site, word[:, :words], level))) for words in LENGTHS}


def kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What an earlier run of the same part left there, or what is made now: an interrupted run goes on."""
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        save_file(make(), path.with_suffix(".unfinished"))
        path.with_suffix(".unfinished").rename(path)
    return load_file(path)


def scored(errors: Sequence[Tensor], bases: Sequence[Tensor], document: Tensor) -> dict[str, float]:
    """FVE of several components together, with the 95% interval over documents."""
    told = document.repeat(len(errors))
    found = fve_interval(torch.cat(list(errors)), torch.cat(list(bases)), told, generator=draws(), resamples=1000)
    return {"fve": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}
