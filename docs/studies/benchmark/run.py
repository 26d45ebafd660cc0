"""Study ``benchmark``: does the benchmark order verbalizers of known truth as their claims order them?"""

import time
from collections.abc import Iterator
from typing import Any

import torch

import tl_nla
from docs.studies.benchmark.variants import damaged, faded
from tl_nla.benchmark.bootstrap import Interval, mean_interval
from tl_nla.benchmark.results import Results, Row
from tl_nla.benchmark.verbalizers.board import Board, own_arm, set_up
from tl_nla.benchmark.verbalizers.config import BenchmarkConfig, Known
from tl_nla.benchmark.verbalizers.runner import score_task
from tl_nla.benchmark.verbalizers.subject import Sizes, capture_subject
from tl_nla.benchmark.verbalizers.verbalizer import Verbalizer, as_verbalizer
from tl_nla.benchmark.verbalizers.words import Words
from tl_nla.faithfulness.grammar import grammar_for
from tl_nla.metrics.ranks import spearman
from tl_nla.model.loading import load_causal_lm
from tl_nla.model.targets import load_target, model_folder
from tl_nla.plugins import embedded

SIZES = Sizes(train=250, calibration=30, test=50, positions=2, train_positions=4, planted=50, silent=20)
JUDGED = (
    "reconstruction", "which_continuation", "which_context", "discrimination", "next_token", "planted_facts",
    "stability", "silence",
)  # fmt: skip
"""Tasks of the overall score: all but claims, which are what it is compared with; one budget of reconstruction."""
DEFINITION = {
    "score/TASK": "as in docs/benchmark.md; split score/overall: mean over tasks of (score - chance) / (1 - chance), "
    "claims left out",
    "score/claims": "claim accuracy 2 true / (said + expected), known from the world. The layer of a row is the "
    "number of the verbalizer",
    "spearman/claims": "rank correlation of overall score and claim accuracy over the verbalizers",
    "intervals": "95%, bootstrap over documents",
}


def evaluate(seed: int = 0) -> Results:
    """Score the embedded verbalizer, faded and damaged copies of it.

    Args:
        seed: of the private split.
    """
    started, tiny, plugin = time.perf_counter(), tl_nla.load_tiny(), embedded("tiny")
    site, config = tiny.nla.site, BenchmarkConfig(seed, SIZES, cheaters=False)
    language_model = load_causal_lm(model_folder("tiny")).eval()
    documents = plugin.documents(600, plugin.HELD_OUT_SEED, 5000 * seed)
    known = Known(plugin.explainer(site), plugin.GRAMMAR, plugin.planted(2 * SIZES.planted, seed))
    with grammar_for(plugin.GRAMMAR):
        subject = capture_subject(load_target("tiny"), tiny.nla.layer, documents, SIZES, seed, known.explainer)
        board = set_up(subject, as_verbalizer(tiny.nla), language_model, config, known)
        rows, names, overall, claims = [], [], [], []
        for number, (name, nla) in enumerate(_variants(tiny, language_model)):
            scores = _scores(board, as_verbalizer(nla, name=name), seed)
            names.append(name)
            overall.append(sum(_share(board, task, scores[task].value) for task in JUDGED) / len(JUDGED))
            claims.append(scores["claims"].value)
            rows += [Row.of("explanation", f"score/{task}", value, layer=number) for task, value in scores.items()]
            rows.append(Row("explanation", "score/overall", overall[-1], None, None, len(JUDGED), layer=number))
    found = float(spearman(torch.tensor(overall), torch.tensor(claims)))
    rows.append(Row("explanation", "spearman/claims", found, None, None, len(names)))
    definition = {**DEFINITION, "verbalizers": names, "tasks": list(JUDGED)}
    return Results("verbalizers", "tiny", [seed], definition, rows, time.perf_counter() - started)


def _variants(tiny: Any, language_model: Any) -> Iterator[tuple[str, tl_nla.NLA]]:
    """Verbalizers whose claims are known to be worse and worse, in two ways."""
    yield "embedded", tiny.nla
    for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0):
        yield f"faded {share}", faded(tiny.nla, language_model, share)
    for noise in (0.05, 0.1, 0.2, 0.3, 0.5):
        yield f"damaged {noise}", damaged(tiny.nla, noise, seed=0)


def _scores(board: Board, verbalizer: Verbalizer, seed: int) -> dict[str, Interval]:
    words = Words(own_arm(verbalizer, seed), board.subject.tokenizer, board.words.budget)
    found = {}
    for task in board.tasks:
        generator = torch.Generator().manual_seed(seed)
        values = score_task(words, task, words.own)
        found[task.name] = mean_interval(values, task.document, generator=generator, resamples=500)
    return found


def _share(board: Board, name: str, score: float) -> float:
    """The part of the way from chance to 1."""
    chance = next(task.chance for task in board.tasks if task.name == name)
    return (score - chance) / (1 - chance)
