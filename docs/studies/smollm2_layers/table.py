"""The page's tables from the stored rows."""

from collections.abc import Sequence
from typing import Any

from docs.studies.lines import fve_of, mean_of, shown, table
from docs.studies.smollm2_layers.score import CLAIMS, OWN
from docs.studies.smollm2_layers.ways import WAYS

_ARMS = (*WAYS, "reinforced", "words_of_16", "shuffled", "no_words")
_PAIR_ARMS = (*WAYS, "reinforced", "words_of_16", "shuffled", "lower_state")


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """FVE by layer, claims by layer, differences of layers."""
    names = [row["document"] for row in rows]
    layers = list(rows[0]["deviation"])
    lines = []
    for arm in _ARMS:
        cells = [_fve(rows, names, f"{arm}/{layer}", layer) for layer in layers]
        lines.append([f"`{arm}`", *cells])
    parts = ["**FVE**\n", table(["arm", *layers], lines)]
    lines = []
    for way in (*WAYS, "reinforced"):
        for claim in CLAIMS:
            keys = [
                f"{way}/{layer}" if int(layer) != OWN or way == "reinforced" else f"as_is/{OWN}" for layer in layers
            ]
            lines.append([f"`{way}`", claim, *(_claim(rows, key, claim) for key in keys)])
    parts += ["**claims that are right**\n", table(["arm", "claim", *layers], lines)]
    for metric in ("cosine", "error"):
        lines = []
        for arm in _PAIR_ARMS:
            cells = []
            for pair in rows[0]["pairs"]:
                own = [row["pairs"][pair] for row in rows]
                values = [one[metric][arm] for one in own if arm in one[metric]]
                if not values:
                    cells.append("")
                    continue
                found = mean_of(values, names) if metric == "cosine" else fve_of(
                    values, [one["deviation"] for one in own], names)  # fmt: skip
                cells.append(shown(found))
            lines.append([f"`{arm}`", *cells])
        title = "cosine with the true difference" if metric == "cosine" else "FVE of the difference, best factor"
        parts += [f"**{title}**\n", table(["arm", *rows[0]["pairs"]], lines)]
    return "\n".join(parts)


def _fve(rows: Sequence[dict[str, Any]], names: list[str], key: str, layer: str) -> str:
    if key not in rows[0]["errors"]:
        return ""
    return shown(fve_of([row["errors"][key] for row in rows], [row["deviation"][layer] for row in rows], names))


def _claim(rows: Sequence[dict[str, Any]], key: str, claim: str) -> str:
    having = [row for row in rows if claim in row["claims"].get(key, {})]
    if not having:
        return ""
    return shown(mean_of([row["claims"][key][claim] for row in having], [row["document"] for row in having]))
