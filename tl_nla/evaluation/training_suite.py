"""Suite ``training``: what reinforcement learning adds to a short warm start, from stored runs."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.evaluation.bootstrap import statistic_interval
from tl_nla.evaluation.nla_rows import NLARows, load_rows
from tl_nla.evaluation.nla_suite import STORED_ROWS, claim_rows, result_rows
from tl_nla.evaluation.results import Results, Row
from tl_nla.evaluation.training_rows import BUDGETS, CURVE, TrainingRows, load_training_rows, tokens_to

STORED = Path(__file__).parent.parent / "storyworld" / "weights"
TARGET_FVE = 0.8
DEFINITION = {
    "fve": "1 - sum|p-g|^2 / sum|g-m|^2; p, g L2-normalised to sqrt(d_model), m the training set's mean of normalised "
    "states; an explanation that could not be extracted costs 2 d_model",
    "site": "blocks.2.hook_resid_post",
    "heldout": "the held-out states of suite nla; greedy explanations, at most 110 tokens",
    "warm_start": "a deliberately short warm start",
    "explanation": "the same pair after reinforcement learning",
    "longer_warm_start": "the same pair after more warm start of the same processor time, half on each part",
    "embedded": "the shipped, fully warm-started pair, the start of ordered",
    "ordered": "the shipped pair after reinforcement learning on explanations cut at random token budgets",
    "tokens_to_fve_0.8": f"tokens of the explanation after which its FVE is {TARGET_FVE}, linear between the budgets "
    f"{', '.join(map(str, BUDGETS))}; no row for an arm that never gets there",
    "probe": "linear probes on the same states, from suite nla",
    "intervals": "95%, bootstrap over documents, and over seeds where there are several",
    "command": "python -m lightning_modules.studies training --seed SEED",
}


def evaluate(model: str = "tiny") -> Results:
    """Score the stored runs.

    Args:
        model: ``"tiny"``; runs are stored for the embedded default only.

    Raises:
        InputError: for another model, or when no run is stored.
    """
    if model != "tiny":
        raise InputError(f"--model {model!r}: suite 'training' has runs of the embedded default only; use --model tiny")
    started = time.perf_counter()
    parts = load_training_rows(list(STORED.glob("training_rows_*.safetensors")))
    rows = training_result_rows(parts)
    seeds = [part.scores.seed for part in parts]
    spent = {
        f"core_seconds/{arm}": [round(float(part.curve[arm][-1, 0]), 1) for part in parts if arm in part.curve]
        for arm in dict.fromkeys(name for part in parts for name in part.curve)
    }
    steps = {
        f"steps/{arm}": [len(part.curve[arm]) for part in parts if part.curve.get(arm, torch.zeros(0, 1)).shape[1] > 1]
        for arm in ("explanation", "ordered")
    }
    definition = {**DEFINITION, **spent, **steps, "stored": f"every row, of seeds {seeds}", "curve_columns": CURVE}
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
    picked = {kind: {arm: getattr(scores, kind)[arm]} for kind in ("errors", "cosines", "extracted", "claims")}
    return NLARows(scores.seed, scores.document, scores.deviation, **picked)


def _tokens_row(arm: str, parts: Sequence[TrainingRows]) -> Row | None:
    if not parts:
        return None
    count = len(parts[0].prefix[arm])
    documents = parts[0].scores.document[:count]

    def mean_tokens(index: Tensor) -> float:
        found = [tokens_to(TARGET_FVE, part.prefix[arm][index], part.scores.deviation[:count][index]) for part in parts]
        return sum(found) / len(found)

    if math.isnan(mean_tokens(torch.arange(count))):
        return None
    interval = statistic_interval(mean_tokens, documents, generator=torch.Generator().manual_seed(0))
    return Row.of(arm, "tokens_to_fve_0.8", interval)


def _probe(parts: Sequence[TrainingRows]) -> NLARows | None:
    """The probes of suite ``nla``, which were scored on the same states."""
    if not STORED_ROWS.is_file():
        return None
    known = load_rows(STORED_ROWS)[0]
    if "probe" not in known.claims or not torch.equal(known.document, parts[0].scores.document):
        return None
    return NLARows(known.seed, known.document, known.deviation, claims={"probe": known.claims["probe"]})
