"""Writes the tables of docs/studies/heads/README.md, layers.md and questions.md anew from the stored row scores.

    python -m docs.studies.oracle_tables

Each table stands between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from docs.studies.heads import run as heads_study
from docs.studies.layers import run as layers_study
from docs.studies.lines import table
from docs.studies.questions import run as questions_study
from docs.studies.spans import run as spans_study
from tl_nla.benchmark.results import Results, Row

PAGES = tuple(Path(__file__).parent / name / "README.md" for name in ("heads", "layers", "questions"))
_ARMS = (
    *("explanation", "sum_of_heads", "gold", "cat_and_explanation", "cat", "cat_long", "cat_and_shuffled", "state"),
    *("own_run", "probe", "component", "shuffled", "empty", "mean"),
)
_SPAN_ARMS = ("explanation", "gold", "cat", "state", "probe")
_TABLE = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def number(row: Row | None, interval: bool = True) -> str:
    """A score to three digits, with its interval where it has one."""
    if row is None:
        return ""
    spread = "" if row.ci_low is None or not interval else f" [{row.ci_low:.3f}, {row.ci_high:.3f}]"
    return f"{row.value:.3f}{spread}"


def by_layer(rows: Sequence[Row], metric: str, split: str = "heldout", intervals: bool = False) -> str:
    """Arms down; the average over layers, then each layer."""
    own = [row for row in rows if (row.metric, row.split, row.head) == (metric, split, None)]
    found = {(row.arm, row.layer): row for row in own}
    layers = sorted({row.layer for row in own if row.layer is not None})
    lines = [
        [f"`{arm}`", number(found[arm, None]), *(number(found.get((arm, layer)), intervals) for layer in layers)]
        for arm in _ARMS
        if (arm, None) in found
    ]
    return table(["arm", "all", *(f"L{layer}" for layer in layers)], lines)


_READERS = {
    "linear heads": ("fve/unrefined_increment", "fve/unrefined_increment"),
    "with refinements": ("fve/minus_cat", "fve/increment"),
    "longer (seed 0)": ("fve/longer_increment", "fve/longer_increment"),
    "network on the own run": ("fve/plateau_increment", "fve/plateau_increment"),
}
"""Readers, from those trained least to those trained most: where ``explanation`` minus ``cat`` stands, and where
``cat_and_explanation`` minus ``cat`` does."""


def gaps(rows: Sequence[Row], arm: str) -> str:
    """An arm minus raw context, by how far the readers of both are trained."""
    lines = []
    for readers, metrics in _READERS.items():
        metric = metrics[arm != "explanation"]
        own = {row.layer: row for row in rows if (row.arm, row.metric, row.head) == (arm, metric, None)}
        lines.append([readers, *(number(own.get(layer)) for layer in (None, 0, 1, 2, 3))])
    return table(["readers", "all", *(f"L{layer}" for layer in range(4))], lines)


def curves(rows: Sequence[Row], prefix: str) -> str:
    """Arms down, step counts across."""
    found = {(row.arm, int(row.metric.removeprefix(prefix))): row for row in rows if row.metric.startswith(prefix)}
    steps = sorted({step for _, step in found})
    lines = [
        [f"`{arm}`", *(number(found.get((arm, step))) for step in steps)]
        for arm in _ARMS
        if any((arm, step) in found for step in steps)
    ]
    return table(["arm", *map(str, steps)], lines)


def spans(rows: Sequence[Row]) -> str:
    """Spans down, arms across, the gap last."""
    found = {(row.arm, row.metric): row for row in rows}
    pairs = [row.metric.removeprefix("fve/gap/") for row in rows if row.metric.startswith("fve/gap/")]
    lines = [
        [pair, *(number(found.get((arm, f"fve/{pair}")), arm == "explanation") for arm in _SPAN_ARMS),
         number(found["explanation", f"fve/gap/{pair}"])]
        for pair in sorted(pairs)
    ]  # fmt: skip
    header = ["span (first-last block)", *(f"`{arm}`" for arm in _SPAN_ARMS), "gap: `explanation` − `state`"]
    return table(header, lines)


def questions(rows: Sequence[Row]) -> str:
    """One line a number."""
    ordered = sorted(rows, key=lambda row: (row.split, row.metric, row.arm))
    lines = [[row.metric, f"`{row.arm}`", row.split, number(row), str(row.n)] for row in ordered]
    return table(["metric", "arm", "split", "value", "n"], lines)


def tables() -> dict[str, str]:
    """All tables by name."""
    suites: dict[str, Callable[[], Results]] = {
        "heads": heads_study.evaluate, "layers": layers_study.evaluate, "spans": spans_study.evaluate,
        "questions": questions_study.evaluate,
    }  # fmt: skip
    heads, layers, span, asked = (suite().rows for suite in suites.values())
    found = {
        "heads": by_layer(heads, "fve"), "heads_minus_cat": by_layer(heads, "fve/minus_cat", intervals=True),
        "heads_increment": by_layer(heads, "fve/increment", intervals=True),
        "untrained": by_layer(heads, "fve", "heldout_heads"),
        "trained_on": by_layer(heads, "fve/trained_on", "heldout_heads"), "heads_curves": curves(heads, "fve/step_"),
        "longer": by_layer(heads, "fve/longer"), "longer_curves": curves(heads, "fve/longer/step_"),
        "longer_increment": by_layer(heads, "fve/longer_increment", intervals=True),
        "plateau": by_layer(heads, "fve/plateau"), "plateau_curves": curves(heads, "fve/plateau/step_"),
        "plateau_increment": by_layer(heads, "fve/plateau_increment", intervals=True), "spans": spans(span),
        "unrefined": by_layer(heads, "fve/unrefined"), "gaps": gaps(heads, "explanation"),
        "increments": gaps(heads, "cat_and_explanation"),
        "all_spans": by_layer(span, "fve"), "questions": questions(asked),
    }  # fmt: skip
    for kind in ("block", "attn", "mlp"):
        found[kind] = by_layer(layers, f"fve/{kind}")
        found[f"{kind}_curves"] = curves(layers, f"fve/{kind}/step_")
    for base in ("explanation", "cat", "cat_long"):
        found[f"sum_minus_{base}"] = by_layer(layers, f"fve/attn_minus_{base}", intervals=True)
    return found


def fill(text: str, found: dict[str, str]) -> str:
    """A page with its tables replaced."""
    return _TABLE.sub(lambda match: match[1] + found[match[2]] + match[3], text)


def main() -> None:
    """Fill all pages."""
    found = tables()
    for page in PAGES:
        page.write_text(fill(page.read_text(), found))
        sys.stdout.write(f"{page}\n")


if __name__ == "__main__":
    main()
