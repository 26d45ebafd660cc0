"""The page's tables from the stored rows."""

from collections.abc import Callable, Sequence
from typing import Any

from docs.studies.lines import fve_of, mean_of, shown, table
from docs.studies.real_states import OWN
from docs.studies.scored import by_seed
from docs.studies.smollm2_layers.score import CLAIMS
from docs.studies.smollm2_layers.ways import WAYS

_ARMS = (*WAYS, "reinforced", "words_of_16", "shuffled", "no_words")
_PAIR_ARMS = (*WAYS, "reinforced", "words_of_16", "shuffled", "lower_state")

Rows = Sequence[dict[str, Any]]


def as_markdown(rows: Rows) -> str:
    """FVE by layer, claims by layer, differences of layers, and the most important numbers seed by seed."""
    layers = list(rows[0]["deviation"])
    lines = []
    for arm in _ARMS:
        cells = [_fve(rows, f"{arm}/{layer}", layer) for layer in layers]
        lines.append([f"`{arm}`", *cells])
    parts = ["**FVE**\n", table(["arm", *layers], _filled(lines))]
    lines = []
    for way in (*WAYS, "reinforced"):
        for claim in CLAIMS:
            keys = [
                f"{way}/{layer}" if int(layer) != OWN or way == "reinforced" else f"as_is/{OWN}" for layer in layers
            ]
            lines.append([f"`{way}`", claim, *(_claim(rows, key, claim) for key in keys)])
    parts += ["**claims that are right**\n", table(["arm", "claim", *layers], _filled(lines, 2))]
    for metric in ("cosine", "error"):
        lines = []
        for arm in _PAIR_ARMS:
            lines.append([f"`{arm}`", *(_pair(rows, pair, metric, arm) for pair in rows[0]["pairs"])])
        title = "cosine with the true difference" if metric == "cosine" else "FVE of the difference, best factor"
        parts += [f"**{title}**\n", table(["arm", *rows[0]["pairs"]], _filled(lines))]
    return "\n".join([*parts, by_seed(rows, _numbers())])


def _filled(lines: list[list[str]], names: int = 1) -> list[list[str]]:
    """Lines of arms that were run."""
    return [line for line in lines if any(line[names:])]


def _numbers() -> dict[str, Callable[[Rows], float]]:
    """What is shown seed by seed."""

    def fve(key: str) -> Callable[[Rows], float]:
        layer = key.split("/")[1]
        return lambda rows: 1 - sum(row["errors"][key] for row in rows) / sum(row["deviation"][layer] for row in rows)

    def cosine(arm: str) -> Callable[[Rows], float]:
        return lambda rows: sum(row["pairs"]["14-18"]["cosine"][arm] for row in rows) / len(rows)

    keys = (f"as_is/{OWN}", "as_is/18", "maps/18", "words_of_16/18", "maps/20")
    found = {"FVE, `{}`, layer {}".format(*key.split("/")): fve(key) for key in keys}
    return found | {f"cosine of 14-18, `{arm}`": cosine(arm) for arm in ("as_is", "maps", "words_of_16")}


def _fve(rows: Rows, key: str, layer: str) -> str:
    own = [row for row in rows if key in row["errors"]]
    if not own:
        return ""
    sides = [row["errors"][key] for row in own], [row["deviation"][layer] for row in own]
    return shown(fve_of(*sides, [row["document"] for row in own]))


def _pair(rows: Rows, pair: str, metric: str, arm: str) -> str:
    own = [row for row in rows if arm in row["pairs"][pair][metric]]
    if not own:
        return ""
    values, names = [row["pairs"][pair][metric][arm] for row in own], [row["document"] for row in own]
    if metric == "cosine":
        return shown(mean_of(values, names))
    return shown(fve_of(values, [row["pairs"][pair]["deviation"] for row in own], names))


def _claim(rows: Rows, key: str, claim: str) -> str:
    having = [row for row in rows if claim in row["claims"].get(key, {})]
    if not having:
        return ""
    return shown(mean_of([row["claims"][key][claim] for row in having], [row["document"] for row in having]))
