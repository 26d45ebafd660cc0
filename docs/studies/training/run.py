"""Suite ``training``: what reinforcement learning adds to a short warm start, from stored runs."""

import argparse
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from docs.studies.nla.run import STORED_ROWS, claim_rows, result_rows
from docs.studies.nla.score import NLARows, load_rows
from docs.studies.training.figure import draw, held_out_fve
from docs.studies.training.score import (
    BUDGETS,
    CURVE,
    TrainingRows,
    document_sums,
    load_training_rows,
    tokens_to,
)
from tl_nla.benchmark.bootstrap import statistic_interval
from tl_nla.benchmark.figures import check_figure
from tl_nla.benchmark.results import Results, Row
from tl_nla.errors import InputError
from tl_nla.paths import user_path_text

STORED = Path(__file__).parent / "rows"
TARGET_FVE = 0.8
DEFINITION = {
    "fve": "1 - sum|p-g|^2 / sum|g-m|^2; p, g L2-normalised to sqrt(d_model), m the training set's mean of normalised "
    "states; an explanation that could not be extracted costs 2 d_model",
    "site": "blocks.2.hook_resid_post",
    "heldout": "the held-out states of suite nla; greedy explanations, at most 110 tokens",
    "warm_start": "a deliberately short warm start",
    "explanation": "the same pair after reinforcement learning",
    "longer_warm_start": "the same pair after more warm start of the same processor time, half on each part",
    "embedded": "the shipped, fully warm-started pair: recent words first, then the next word, then facts",
    "recent_first": "the shipped verbalizer; its reconstructor after more warm start on texts cut at random tokens",
    "next_first": "the shipped pair after more warm start on explanations that begin with the next word, those of the "
    "reconstructor cut; no reinforcement learning",
    "shuffled_order": "the same with clauses in random order: the start of ordered",
    "ordered": "shuffled_order after reinforcement learning on explanations cut at random token budgets",
    "tokens_to_fve_0.8": f"tokens of the explanation after which its FVE is {TARGET_FVE}, linear between the budgets "
    f"{', '.join(map(str, BUDGETS))}; no row for an arm that never gets there",
    "probe": "linear probes on the same states, from suite nla",
    "intervals": "95%, bootstrap over documents, and over seeds where there are several; n counts documents",
    "command": "python -m docs.studies.training.train training --seed SEED; python -m docs.studies.training.ordered "
    "--seed SEED",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the suite."""
    parser.add_argument(
        "--figure", type=user_path_text, metavar="FILE", help="draw FVE against training time and tokens read"
    )


def evaluate(model: str = "tiny", figure: str | None = None) -> Results:
    """Score the stored runs.

    Args:
        model: ``"tiny"``; runs are stored for the embedded default only.
        figure: image file of FVE over the training's time, and over the tokens that are read.

    Raises:
        InputError: for another model, or when no run is stored.
    """
    if model != "tiny":
        raise InputError(f"--model {model!r}: suite 'training' has runs of the embedded default only; use --model tiny")
    if figure is not None:
        check_figure(figure)
    started = time.perf_counter()
    parts = load_training_rows(list(STORED.glob("training_rows_*.safetensors")))
    if figure is not None:
        draw(parts, figure)
    rows = training_result_rows(parts)
    seeds = [part.scores.seed for part in parts]
    trained = dict.fromkeys(arm for part in parts for arm in part.curve)
    ends = {arm: [part.curve[arm][-1] for part in parts if arm in part.curve] for arm in trained}
    steps = {f"steps/{arm}": [int(end[0]) for end in ends[arm]] for arm in trained}
    spent = {f"core_seconds/{arm}": [round(float(end[1]), 1) for end in ends[arm]] for arm in trained}
    arms = dict.fromkeys(arm for part in parts for arm in part.scores.errors)
    alone = {
        f"fve_by_seed/{arm}": {
            part.scores.seed: round(held_out_fve(part, arm), 3) for part in parts if arm in part.scores.errors
        }
        for arm in arms
    }
    definition = {
        **DEFINITION,
        **alone,
        **spent,
        **steps,
        "stored": f"every row, of seeds {seeds}",
        "curve_columns": CURVE,
    }
    return Results("training", "tiny", seeds, definition, rows, time.perf_counter() - started)


def training_result_rows(parts: Sequence[TrainingRows]) -> list[Row]:
    """Rows of the results contract; an arm that some seeds lack is left to the seeds that have it."""
    rows: list[Row] = []
    for arm in dict.fromkeys(arm for part in parts for arm in part.scores.errors):
        having = [_only(part.scores, arm) for part in parts if arm in part.scores.errors]
        rows += result_rows(having)
        row = _tokens_row(arm, [part for part in parts if arm in part.prefix])
        rows += [row] if row else []
    probe = _probe(parts)
    return rows + (claim_rows([probe]) if probe else [])


def _only(scores: NLARows, arm: str) -> NLARows:
    picked: Any = {kind: {arm: getattr(scores, kind)[arm]} for kind in ("errors", "cosines", "extracted", "claims")}
    return NLARows(scores.seed, scores.document, scores.deviation, **picked)


def _tokens_row(arm: str, parts: Sequence[TrainingRows]) -> Row | None:
    if not parts:
        return None
    count = len(parts[0].prefix[arm])

    def tokens(part: TrainingRows, index: Tensor) -> float:
        return tokens_to(TARGET_FVE, part.prefix[arm][index], part.scores.deviation[:count][index])

    each = [partial(tokens, part) for part in parts]
    interval = statistic_interval(
        each, parts[0].scores.document[:count], generator=torch.Generator().manual_seed(0)
    )  # fmt: skip
    return None if math.isnan(interval.value) else Row.of(arm, "tokens_to_fve_0.8", interval)


def _probe(parts: Sequence[TrainingRows]) -> NLARows | None:
    """The probes of suite ``nla``, which were scored on the same states."""
    if not STORED_ROWS.is_file():
        return None
    known = load_rows(STORED_ROWS)[0]
    document = parts[0].scores.document
    if "probe" not in known.claims or not torch.equal(known.document.unique(), document):
        return None
    counts = document_sums(known.claims["probe"], known.document)
    return NLARows(known.seed, document, parts[0].scores.deviation, claims={"probe": counts})
