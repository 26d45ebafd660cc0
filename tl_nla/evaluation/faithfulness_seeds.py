"""Rows of suite ``faithfulness`` of pairs that are not shipped: stored, and joined with those of the shipped pair."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tl_nla.evaluation.bootstrap import Interval, join_seeds
from tl_nla.evaluation.results import Row

FOLDER = Path(__file__).parent.parent / "storyworld" / "weights"
_DIGITS = 5


def store_rows(rows: Sequence[Row], seed: int, folder: Path = FOLDER) -> None:
    """Keep one seed's rows, a line each: arm, metric, value, ends of the interval, n."""
    lines = [
        json.dumps([row.arm, row.metric, *(_rounded(x) for x in (row.value, row.ci_low, row.ci_high)), row.n])
        for row in rows
    ]
    (folder / f"faithfulness_rows_{seed}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def load_rows(folder: Path = FOLDER) -> dict[int, list[Row]]:
    """Stored rows by seed."""
    found = {}
    for path in sorted(folder.glob("faithfulness_rows_*.jsonl")):
        lines = path.read_text(encoding="utf-8").split("\n")
        found[int(path.stem.rsplit("_", 1)[1])] = [Row(*json.loads(line)) for line in lines if line]
    return found


def join_rows(fresh: Sequence[Row], stored: Mapping[int, Sequence[Row]]) -> list[Row]:
    """The mean over seeds of every row that all seeds have; a row that some lack stays as the fresh pair has it.

    Args:
        fresh: rows of the shipped pair.
        stored: rows of other seeds, of the same states.
    """
    others = [{(row.arm, row.metric): row for row in rows} for rows in stored.values()]
    joined = []
    for row in fresh:
        key = (row.arm, row.metric)
        same = [row, *(other[key] for other in others if key in other)]
        joined.append(_mean(same) if len(same) == len(others) + 1 else row)
    return joined


def _mean(rows: Sequence[Row]) -> Row:
    first = rows[0]
    ends = [(row.value, row.ci_low, row.ci_high, row.n) for row in rows]
    if any(low is None or high is None for _, low, high, _ in ends):
        value, count = sum(row.value for row in rows) / len(rows), sum(row.n for row in rows)
        return Row(first.arm, first.metric, value, None, None, count)
    return Row.of(first.arm, first.metric, join_seeds([Interval(*numbers) for numbers in ends]))  # type: ignore[arg-type]


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, _DIGITS)
