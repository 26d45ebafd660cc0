"""The page's tables from the stored rows."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torchmetrics.functional.classification import binary_auroc

from docs.studies.lines import draws, mean_of, numbered, shown, table
from docs.studies.scored import by_seed
from docs.studies.smollm2_faithfulness.causal import KINDS
from docs.studies.smollm2_faithfulness.certainty import TYPES
from tl_nla.benchmark.bootstrap import ratio_interval, statistic_interval

BINS = (0.0, 0.25, 0.5, 0.75, 1.0)
_ARMS = ("words", "words, twice", "another_row", "random_direction", "true_state")

Rows = Sequence[dict[str, Any]]


def as_markdown(rows: Rows) -> str:
    """Claims by certainty, what edited claims do, and the most important numbers seed by seed."""
    claims = [row for row in rows if row["part"] == "claim"]
    edits = [row for row in rows if row["part"] == "edit"]
    return "\n".join(["**claims that are right, by the probability with which they were said**\n", by_certainty(claims),
                      "**edited claims**\n", by_edit(edits), by_seed(rows, _numbers())])  # fmt: skip


def _numbers() -> dict[str, Callable[[Rows], float]]:
    """What is shown seed by seed."""

    def right(kind: str, least: float = 0.0) -> Callable[[Rows], float]:
        def share(rows: Rows) -> float:
            claims = [row for row in rows if row["part"] == "claim" and row["kind"] == kind]
            return _mean([float(row["right"]) for row in claims if row["chance"] >= least])

        return share

    def closed(kind: str) -> Callable[[Rows], float]:
        return lambda rows: _ratio([row for row in rows if row["kind"] == kind and "closed" in row and row["right"]])

    def rise(rows: Rows) -> float:
        return _mean([row["rise"]["words"] for row in rows if "rise" in row])

    return {
        "last word right": right("last 1"), "last word right, said at .75 or more": right("last 1", 0.75),
        "word before it right": right("last 2"), "edited last word, claim true: share closed": closed("last 1"),
        "edited word before it, claim true: share closed": closed("last 2"), "edited next word: nats": rise,
    }  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def _ratio(rows: Rows) -> float:
    return sum(row["closed"]["words"] for row in rows) / sum(row["open"] for row in rows)


def by_certainty(claims: Rows) -> str:
    """Accuracy by type in four bins of certainty, the mean certainty, and the AUC of certainty for truth."""
    lines = []
    for kind in TYPES:
        own = [row for row in claims if row["kind"] == kind]
        cells = [_accuracy(own)]
        for low, high in pairwise(BINS):
            cells.append(_accuracy([row for row in own if low <= row["chance"] < high or row["chance"] == high == 1]))
        cells += [f"{sum(row['chance'] for row in own) / len(own):.2f}", _area(own)]
        lines.append([kind, *cells])
    bins = [f"said at {low:g} to {high:g}" for low, high in pairwise(BINS)]
    return table(["claim", "all", *bins, "mean certainty", "AUC"], lines)


def _accuracy(rows: Rows) -> str:
    if not rows:
        return ""
    found = mean_of([float(row["right"]) for row in rows], [row["document"] for row in rows])
    return f"{shown(found)} ({found.n})"


def _area(rows: Rows) -> str:
    chances, right = torch.tensor([row["chance"] for row in rows]), torch.tensor([int(row["right"]) for row in rows])

    def area(chosen: torch.Tensor) -> float:
        return float(binary_auroc(chances[chosen], right[chosen])) if 0 < right[chosen].sum() < len(chosen) else 0.5

    return shown(statistic_interval(area, numbered([row["document"] for row in rows]), generator=draws()))


def by_edit(edits: Rows) -> str:
    """Share of the divergence that an edited last word closes; nats that an edited next word gains."""
    lines = []
    for arm in _ARMS:
        cells = []
        for kind in KINDS[:2]:
            for right in (True, False):
                own = [row for row in edits if row["kind"] == kind and row["right"] == right]
                cells.append(_closed(own, arm) if own else "")
        own = [row for row in edits if row["kind"] == "next"]
        for right in (True, False):
            some = [row for row in own if row["right"] == right and arm in row["rise"]]
            cells.append(shown(mean_of([row["rise"][arm] for row in some], [row["document"] for row in some]))
                         if some else "")  # fmt: skip
        lines.append([f"`{arm}`", *cells])
    header = ["change", *(f"{kind}, claim {truth}: share closed" for kind in KINDS[:2] for truth in ("true", "false")),
              "next, claim true: nats", "next, claim false: nats"]  # fmt: skip
    counts = [f"{kind} {sum(row['kind'] == kind for row in edits)}" for kind in KINDS]
    cosines = [row["cosine"] for row in edits if "cosine" in row]
    near = shown(mean_of(cosines, [row["document"] for row in edits if "cosine" in row]))
    about = f"Edits: {', '.join(counts)}. Cosine of the words' change with the true one: {near}."
    return f"{table(header, lines)}\n{about}\n"


def _closed(rows: Rows, arm: str) -> str:
    sides = (torch.tensor(values, dtype=torch.float64)
             for values in ([row["closed"][arm] for row in rows], [row["open"] for row in rows]))  # fmt: skip
    return shown(ratio_interval(*sides, numbered([row["document"] for row in rows]), generator=draws()))
