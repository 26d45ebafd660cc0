"""The page's tables from the stored rows."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from docs.studies.lines import mean_of, shown, table
from docs.studies.scored import by_seed
from docs.studies.smollm2_steering.score import METRICS, PLACES

Rows = Sequence[dict[str, Any]]
_REPEATED = ("quotes_removed", "unsteered", "prompt_edit")
"""Arms that have no line of their own in the sweep."""
_SHOWN = ("append@1/all", "instruction_only@1/all", "edit@1/all", "next_only@1/all", "append/replace@0.3/all",
          "caa_word@4/last", "prompt_edit")  # fmt: skip


def as_markdown(rows: Rows) -> str:
    """Arms at equal fluency, by strength, and the most important numbers seed by seed."""
    parts = [f"**At the fluency of the prompt edit ({len(rows)} prompts)**\n", matched(rows)]
    parts += ["**By strength, every token changed**\n", sweep(rows)]
    return "\n".join([*parts, by_seed(rows, {f"odds, nats more, `{key}`": _odds(key) for key in _SHOWN})])


def _odds(key: str) -> Callable[[Rows], float]:
    return lambda rows: _mean(rows, key, "odds") - _mean(rows, "unsteered@0/all", "odds")


def value(row: dict[str, Any], key: str, metric: str) -> float:
    """One score of one prompt."""
    return float(row["arms"][key][METRICS.index(metric)])


def arms_of(rows: Rows) -> dict[str, list[float]]:
    """Strengths by arm."""
    found: dict[str, list[float]] = {}
    for key in rows[0]["arms"]:
        if key.endswith(f"/{PLACES[0]}"):
            name, strength = key.removesuffix(f"/{PLACES[0]}").split("@")
            found.setdefault(name, []).append(float(strength))
    return found


def best(rows: Rows, arm: str, place: str) -> str:
    """The key of the strength that raises the odds most among those whose text is as fluent as the prompt edit's.

    Where none is, the weakest one.
    """
    limit = _mean(rows, "prompt_edit", "log_perplexity")
    keys = [f"{arm}@{strength:g}/{place}" for strength in arms_of(rows)[arm]]
    fluent = [key for key in keys if _mean(rows, key, "log_perplexity") <= limit]
    return max(fluent, key=lambda key: _mean(rows, key, "odds")) if fluent else keys[0]


def chosen(rows: Rows, arm: str, place: str) -> list[str]:
    """The key of each prompt; its strength is chosen on the other half of the prompts."""
    halves = [best(rows[1 - half :: 2], arm, place) for half in range(2)]
    return [halves[number % 2] for number in range(len(rows))]


def matched(rows: Rows) -> str:
    """Every arm at the fluency of the prompt edit."""
    lines = [_line(rows, "unsteered", ["unsteered@0/all"] * len(rows), ""),
             _line(rows, "prompt_edit", ["prompt_edit"] * len(rows), "")]  # fmt: skip
    for place in ("all", "last"):
        for arm in arms_of(rows):
            if arm != "unsteered":
                lines.append(_line(rows, arm, chosen(rows, arm, place), place))
    return table(["arm", "tokens", "strength", "odds, nats more", "first", "named", "perplexity", "kl"], lines)


def _line(rows: Rows, arm: str, keys: list[str], place: str) -> list[str]:
    names = [row["prompt"] for row in rows]
    plain = [value(row, "unsteered@0/all", "odds") for row in rows]
    more = [value(row, key, "odds") - base for row, key, base in zip(rows, keys, plain, strict=True)]
    strengths = sorted({key.split("@")[1].split("/")[0] for key in keys if "@" in key}, key=float)
    cells = [shown(mean_of(more, names))]
    for metric in ("first", "named"):
        cells.append(shown(mean_of([value(row, key, metric) for row, key in zip(rows, keys, strict=True)], names)))
    nats = [value(row, key, "log_perplexity") for row, key in zip(rows, keys, strict=True)]
    divergence = [value(row, key, "kl") for row, key in zip(rows, keys, strict=True)]
    cells += [f"{math.exp(sum(nats) / len(nats)):.1f}", f"{sum(divergence) / len(divergence):.2f}"]
    return [f"`{arm}`", place, ", ".join(strengths) if place else "", *cells]


def sweep(rows: Rows) -> str:
    """Nats by which the odds rise, the share of texts that name the colour, and perplexity, at each strength."""
    lines = []
    for arm, strengths in arms_of(rows).items():
        if arm not in _REPEATED:
            cells = [_cell(rows, f"{arm}@{strength:g}/all", strength) for strength in strengths]
            lines.append([f"`{arm}`", *(cells + [""] * 4)[:4]])
    return table(["arm", *["strength: nats more / named / perplexity"] * 4], lines)


def _cell(rows: Rows, key: str, strength: float) -> str:
    more = _mean(rows, key, "odds") - _mean(rows, "unsteered@0/all", "odds")
    told = _mean(rows, key, "named"), math.exp(_mean(rows, key, "log_perplexity"))
    return f"{strength:g}: {more:+.1f} / {told[0]:.2f} / {told[1]:.1f}"


def _mean(rows: Rows, key: str, metric: str) -> float:
    return sum(value(row, key, metric) for row in rows) / len(rows)
