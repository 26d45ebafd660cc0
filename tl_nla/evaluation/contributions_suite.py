"""Suite ``contributions``: do the words of all writes give the output back, and does the report find what decided?"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tl_nla.cli.options import whole_number
from tl_nla.errors import InputError
from tl_nla.evaluation.bootstrap import fve_interval, mean_interval
from tl_nla.evaluation.planted_facts import FactScore, score_story
from tl_nla.evaluation.results import Results, Row

STORED = Path(__file__).parent.parent / "storyworld" / "weights" / "contributions_rows.safetensors"
STORIES, MIN_DISTANCE = 60, 20
DEFINITION = {
    "kl_recovered": "1 - sum KL(clean || rebuilt) / sum KL(clean || mean writes): the last residual state is rebuilt "
    "from the words of all heads and MLPs, embedding and biases exact; a row with a layer has the writes of the layers "
    "up to it from words and those of later layers at their training mean",
    "kl_recovered/constant": "the same with the mean prediction as the zero: 1 - sum KL(clean || rebuilt) / sum "
    "KL(clean || mean prediction), all layers from words",
    "top1_agreement": "share of positions whose likeliest next token is that of the clean model",
    "gold": "label texts computed from the model; for planted facts: a report whose words are such labels",
    "cat": "who writes, and the last tokens of the raw text, as many as the label has; read by a reconstructor trained "
    "in the same way",
    "shuffled": "texts of a position of another document, read by the reconstructor of the right ones",
    "shuffled_writes": "the exact writes of that other position, no words: what shuffled texts give at best. It "
    "is above zero because a state of mean writes predicts worse than a state of another document",
    "constant": "words-only recovery: the mean prediction of the training positions, whatever is read",
    "planted facts": f"words of held-out stories decided by a fact told at least {MIN_DISTANCE} tokens before, where "
    "the model is right",
    "precision_at_3/skips": "share of the report's three strongest heads and MLPs that are among the three of an "
    "ablation with ordinary hooks, one component at a time at this position",
    "precision_at_3/direct": "the same for the three with the largest direct contribution",
    "precision_at_3/everywhere": "the three strongest skips at this position against ablation at all positions at once",
    "recall_at_3/fact_sources": "share of facts whose place is a stated source of one of the three",
    "changes_answer": "share of facts where leaving out the report's first component alone changes the answer",
}


@dataclass
class Recoveries:
    """Words-only recovery of one seed, row by row.

    Attributes:
        seed: of data and training.
        document: of each position.
        kl: arm -> KL to the clean prediction after 0, 1, ... all layers, ``[told, n]``.
        same: arm -> whether the likeliest token is that of the clean model, ``[told, n]``.
    """

    seed: int
    document: Tensor
    kl: dict[str, Tensor] = field(default_factory=dict)
    same: dict[str, Tensor] = field(default_factory=dict)


def save_recoveries(parts: Sequence[Recoveries], path: Path) -> None:
    """Store the rows of several seeds in one safetensors file."""
    named: dict[str, Tensor] = {}
    for part in parts:
        named[f"{part.seed}/document"] = part.document.clone()
        named |= {f"{part.seed}/kl/{arm}": value.float().clone() for arm, value in part.kl.items()}
        named |= {f"{part.seed}/same/{arm}": value.to(torch.uint8).clone() for arm, value in part.same.items()}
    save_file(named, path)


def load_recoveries(path: Path) -> list[Recoveries]:
    """Rows stored by :func:`save_recoveries`.

    Raises:
        InputError: when there is no such file.
    """
    if not path.is_file():
        raise InputError(f"no stored results at {path}; train them with lightning_modules.contribution")
    found = load_file(path)
    seeds = sorted({int(name.partition("/")[0]) for name in found})
    parts = {seed: Recoveries(seed, found[f"{seed}/document"]) for seed in seeds}
    for name, value in found.items():
        seed, kind, *arm = name.split("/")
        if arm:
            getattr(parts[int(seed)], kind)[arm[0]] = value if kind == "kl" else value.bool()
    return list(parts.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this suite."""
    parser.add_argument(
        "--stories", type=whole_number(1), default=STORIES, help=f"stories with planted facts (default {STORIES})"
    )


def evaluate(model: str = "tiny", stories: int = STORIES) -> Results:
    """Run the suite on the embedded default.

    Planted facts are scored afresh; words-only recovery, whose readers take long to train, comes from stored rows where
    there are any.

    Raises:
        InputError: for another model, whose facts are not known.
    """
    from tl_nla.cli.contributions import find_oracle
    from tl_nla.storyworld.recalls import held_out_stories
    from tl_nla.targets import TINY, load_target

    if model != TINY:
        raise InputError(f"--model {model!r}: suite 'contributions' knows the embedded world's facts only; use tiny")
    started = time.perf_counter()
    target = load_target(TINY)
    arms = {"gold": None, "explanation": find_oracle(TINY, None)}
    rows: list[Row] = []
    for arm, oracle in arms.items():
        if arm == "gold" or oracle is not None:
            scores = [
                score
                for number, story in enumerate(held_out_stories(stories))
                for score in score_story(target.model, target.tokenizer, story, number, MIN_DISTANCE, oracle)
            ]
            rows += fact_rows(scores, arm)
    stored = load_recoveries(STORED) if STORED.is_file() else []
    rows += recovery_rows(stored) if stored else []
    seeds = [part.seed for part in stored]
    definition = {**DEFINITION, "fresh": "planted facts", "stored": f"words-only recovery of seeds {seeds}"}
    return Results("contributions", model, seeds or [0], definition, rows, time.perf_counter() - started)


def fact_rows(scores: Sequence[FactScore], arm: str) -> list[Row]:
    """Rows of the planted facts.

    Raises:
        InputError: when no fact was scored.
    """
    if not scores:
        raise InputError("no planted fact is told early enough and right; score more stories")
    documents = torch.tensor([score.story for score in scores])
    columns: Mapping[str, list[float]] = {
        "precision_at_3/skips": [score.precision for score in scores],
        "precision_at_3/direct": [score.precision_direct for score in scores],
        "precision_at_3/everywhere": [score.precision_everywhere for score in scores],
        "recall_at_3/fact_sources": [float(score.words if arm == "explanation" else score.sources) for score in scores],
        "changes_answer": [float(score.changes_answer) for score in scores],
    }
    return [Row.of(arm, name, mean_interval(torch.tensor(values), documents, generator=_generator()))
            for name, values in columns.items()]  # fmt: skip


def recovery_rows(parts: Sequence[Recoveries]) -> list[Row]:
    """Rows of the words-only recovery: all layers told, and the cumulative curve."""
    rows: list[Row] = []
    for arm in parts[0].kl:
        having = [part for part in parts if arm in part.kl]
        documents = torch.cat([part.document for part in having])
        seeds = torch.cat([torch.full_like(part.document, part.seed) for part in having])
        kl = torch.cat([part.kl[arm].double() for part in having], 1)
        last = len(kl) - 1
        for told in range(1, last + 1):
            interval = fve_interval(kl[told], kl[0], documents, seeds, generator=_generator())
            rows.append(Row.of(arm, "kl_recovered", interval, layer=told - 1))
        rows.append(Row.of(arm, "kl_recovered", interval))  # that of the last layer is the whole
        if all("constant" in part.kl for part in having):
            usual = torch.cat([part.kl["constant"][last].double() for part in having])
            interval = fve_interval(kl[last], usual, documents, seeds, generator=_generator())
            rows.append(Row.of(arm, "kl_recovered/constant", interval))
        if arm in having[0].same:
            same = torch.cat([part.same[arm][last].double() for part in having])
            rows.append(Row.of(arm, "top1_agreement", mean_interval(same, documents, seeds, generator=_generator())))
    return [row for row in rows if math.isfinite(row.value)]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
