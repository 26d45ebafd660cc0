"""Suite ``questions``: are the answers of a diff oracle right, is it silent on nothing, and does its sign turn?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tl_nla.benchmark.bootstrap import ratio_interval, statistic_interval
from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.oracle_suite import ScoredOracles, generator, trained_on_them
from tl_nla.benchmark.results import Results, Row
from tl_nla.metrics.ranks import area_under_curve, spearman

_KINDS_OF_INTEREST = ("head", "attn", "mlp", "block")
_QUESTIONS = {
    "recall_at_4/promotes": "of the four words promoted most, the share that are among the first four answered, where "
    "the reader must name four (at_least=4)",
    "recall_at_4/suppresses": "the same for suppressed words; arm swapped: the write with its sign turned, against "
    "the opposite list",
    "recall_at_3/sources_distant": "of up to three strongest sources more than 15 tokens back (share >= .04), the "
    "share among the first three answered, where the reader must name three (at_least=3); arm cat: the nearest words "
    "more than 15 back; constant: the component's most frequent in training, of one never shown those of all; probe: "
    "a ridge regression from state and write",
    "recall_at_3/sources_distant_strong": "the same of those with a share >= .15",
    "precision_at_3/sources_distant": "of the first three distant sources answered, the share that are among these; "
    "three are named also where fewer were read",
    "auc/skip_flip": "area under the ROC of 'the next token changes without the write', scored by how much likelier "
    "the reader is to begin with 'flips' than with 'keeps'; probe: logistic regression on state, write, size, name",
    "spearman/strength": "rank correlation of the stated strength step with the write's norm, all components",
    "precision/nothing": "of the writes called 'nothing', the share whose norm is below .01 of the state's; every "
    "fourth write is also shown shrunk to .001 of the state's norm",
    "unchanged_rate": "share of zero writes (the same vector twice) that are called 'nothing'",
    "trained_on": "behind a metric: on the held-out heads, of the oracle of the same seed that was trained on them",
    "antisymmetry": "share of writes for which, with the sign turned, the lists of promoted and suppressed words "
    "overlap more with each other's than with their own from before",
}


def evaluate(scored: ScoredOracles) -> Results:
    """Run the suite."""
    started = time.perf_counter()
    parts, untrained = scored.parts, scored.without_heads
    rows = _rows(parts, "heldout") + _rows(untrained, "heldout_heads")
    known = _rows(trained_on_them(parts, untrained), "heldout_heads")
    rows += [replace(row, metric=f"{row.metric}/trained_on") for row in known]
    return Results("questions", scored.model, scored.seeds, {**scored.definition, **_QUESTIONS}, rows,
                   time.perf_counter() - started)  # fmt: skip


def _rows(parts: Sequence[OracleRows], split: str) -> list[Row]:
    found = []
    for name in dict.fromkeys(name for part in parts for name in part.counts):
        arm, metric = name.split("/", 1)
        found.append(question_row([part for part in parts if name in part.counts], name, arm, metric, split))
    return [row for row in found if row is not None]


def question_row(parts: Sequence[OracleRows], name: str, arm: str, metric: str, split: str) -> Row | None:
    """One number with its interval, over the rows that were asked; ``None`` where there are none."""
    tables, documents, seeds = [], [], []
    for part in parts:
        kinds = ("head",) if split == "heldout_heads" else (*_KINDS_OF_INTEREST, "span")
        rows = torch.cat([part.rows_of(kind, split == "heldout") for kind in kinds])
        rows = rows[torch.isfinite(part.counts[name][rows]).all(1)]
        tables.append(part.counts[name][rows].double())
        documents.append(part.document[rows])
        seeds.append(torch.full((len(rows),), part.seed))
    table = torch.cat(tables)
    places, seed = torch.cat(documents), torch.cat(seeds)
    if not len(table):
        return None
    statistics = {"auc": area_under_curve, "spearman": spearman}
    statistic = statistics.get(metric.split("/")[0])
    if statistic is not None:
        if len(table[:, 1].unique()) < 2:
            return None
        # Documents of several seeds are the same ones: they are drawn together, and ranks are taken over all.
        interval = statistic_interval(_on(statistic, table), places, generator=generator(), resamples=200)
        return Row.of(arm, metric, interval, split)
    if not all(table[seed == one, 1].sum() > 0 for one in seed.unique()):
        return None
    return Row.of(arm, metric, ratio_interval(table[:, 0], table[:, 1], places, seed, generator=generator()), split)


def _on(statistic: Callable[[Tensor, Tensor], float], table: Tensor) -> Callable[[Tensor], float]:
    return lambda rows: statistic(table[rows, 0], table[rows, 1])
