"""The page's tables from the stored rows."""

from collections.abc import Sequence
from typing import Any

from docs.studies.lines import mean_of, shown, table


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Both tables: without training, and after a short one."""
    names = [row["document"] for row in rows]
    lines = []
    for arm in rows[0]["untrained"]:
        cells = [_cell(rows, names, "untrained", arm, metric) for metric in ("right", "nats")]
        lines.append([f"`{arm}`", *cells])
    parts = ["**untrained**\n", table(["arm", "last token right", "nats"], lines)]
    lines = []
    for arm in rows[0]["trained"]:
        cells = [_cell(rows, names, "trained", arm, metric, place) for place in (0, 1) for metric in ("right", "nats")]
        lines.append([f"`{arm}`", *cells, _cell(rows, names, "shuffled", arm, "nats") if arm in rows[0]["shuffled"]
                      else ""])  # fmt: skip
    header = ["arm", "last token right", "nats", "following token right", "nats", "nats of the last, another's state"]
    return "\n".join([*parts, "**trained**\n", table(header, lines)])


def _cell(rows: Sequence[dict[str, Any]], names: list[str], part: str, arm: str, metric: str, place: int = 0) -> str:
    found = [row[part][arm].get(metric) for row in rows]
    if found[0] is None or place >= len(found[0]):
        return ""
    return shown(mean_of([values[place] for values in found], names))
