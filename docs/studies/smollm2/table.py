"""The page's table from the stored scores."""

import json
from collections.abc import Sequence
from pathlib import Path


def read_rows(path: Path) -> list[dict[str, float | str]]:
    """Stored scores, one head and arm each."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def as_markdown(rows: Sequence[dict[str, float | str]]) -> str:
    """Strict FVE of each head's arms with their intervals; the loose one behind a stroke."""
    cells: dict[tuple[str, str], str] = {}
    sites: dict[str, None] = {}
    arms: dict[str, None] = {}
    for row in rows:
        words = f", {row['words']:g} words" if row["words"] else ""
        dial = f", dial {row['dial']:g}" if "dial" in row else ""
        key, site = f"{row['arm']}{words}{dial}", str(row["site"])
        sites[site], arms[key] = None, None
        seen = f" (words seen {row['count_median']:g} times)" if "dial" in row else ""
        cells[key, site] = (
            f"{row['fve']:.2f} [{row['fve_low']:.2f}, {row['fve_high']:.2f}] / {row['fve_all']:.2f}{seen}"
        )
    lines = ["| arm | " + " | ".join(_named(site) for site in sites) + " |", "|---" * (len(sites) + 1) + "|"]
    lines += [f"| {arm} | " + " | ".join(cells.get((arm, site), "") for site in sites) + " |" for arm in arms]
    return "\n".join(lines) + "\n"


def _named(site: str) -> str:
    _, layer, _, _, head = site.split(".")
    return f"layer {layer}, head {head}"
