"""Suite ``spans``: for every pair of layers, what the words of a span tell beyond the state before it."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from tl_nla.benchmark.bootstrap import fve_interval, ratio_interval
from tl_nla.benchmark.figures import check_figure
from tl_nla.benchmark.oracle_figure import draw_gap_map
from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.oracle_suite import ATTENTION_ARMS, ScoredOracles, all_arms, fve_rows, generator, joined
from tl_nla.benchmark.results import Results, Row
from tl_nla.model.sites import Site
from tl_nla.oracle.texts import component_words

_GAP = "fve/gap/"


def evaluate(scored: ScoredOracles, figure: str | None = None) -> Results:
    """Run the suite.

    Returns:
        FVE of every arm over all spans. For each span ``fve/FIRST-LAST`` and the gap map ``fve/gap/FIRST-LAST``: FVE of
        the span's explanation minus that of the state before alone. One block is the span from a layer to itself.
    """
    if figure is not None:
        check_figure(figure)
    started = time.perf_counter()
    parts, definition = scored.parts, scored.definition
    rows = fve_rows(parts, _arms(parts), "span")
    for place, site in enumerate(parts[0].sites):
        name = _pair(site)
        if name is not None:
            rows += _span_rows(parts, place, name)
    if figure is not None:
        draw_gap_map(_gaps(rows), figure)
    definition |= {"fve/gap/FIRST-LAST": "FVE of the span's explanation minus that of the arm state, on the same rows"}
    return Results("spans", scored.model, scored.seeds, definition, rows, time.perf_counter() - started)


def _gaps(rows: Sequence[Row]) -> dict[tuple[int, int], float]:
    gaps = {}
    for row in rows:
        if row.metric.startswith(_GAP):
            first, last = row.metric.removeprefix(_GAP).split("-")
            gaps[int(first), int(last)] = row.value
    return gaps


def _span_rows(parts: Sequence[OracleRows], place: int, name: str) -> list[Row]:
    rows = []
    for arm in _arms(parts):
        having, chosen = _having(parts, place, arm)
        interval = fve_interval(*joined(having, arm, chosen), generator=generator())
        rows.append(Row.of(arm, f"fve/{name}", interval))
    having, chosen = _having(parts, place, "state")
    if having:
        said, deviation, documents, seeds = joined(having, "explanation", chosen)
        before = joined(having, "state", chosen)[0]
        gap = ratio_interval(before - said, deviation, documents, seeds, generator=generator())
        rows.append(Row.of("explanation", f"{_GAP}{name}", gap))
    return rows


def _having(parts: Sequence[OracleRows], place: int, arm: str) -> tuple[list[OracleRows], list[Tensor]]:
    """The seeds that have an arm, and their rows of one site."""
    having = [part for part in parts if arm in part.errors]
    return having, [torch.nonzero(part.site == place).flatten() for part in having]


def _pair(text: str) -> str | None:
    site = Site.parse(text)
    if site.kind == "block":
        return f"{site.layer}-{site.layer}"
    if site.kind == "span" and site.start is not None and site.end is not None and component_words(site):
        return f"{site.start.layer}-{site.end.layer}"
    return None


def _arms(parts: Sequence[OracleRows]) -> list[str]:
    return [arm for arm in all_arms(parts) if arm not in ATTENTION_ARMS]
