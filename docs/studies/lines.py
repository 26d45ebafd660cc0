"""What studies of a real model share: rows as lines of JSON, and cells with intervals over documents."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tl_nla.benchmark.bootstrap import Interval, fve_interval, mean_interval, statistic_interval
from tl_nla.errors import InputError


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Stored rows.

    Raises:
        InputError: when there is no such file.
    """
    if not path.is_file():
        raise InputError(f"no stored rows at {path}; this checkout is not whole")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store rows, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def numbered(names: Sequence[Any]) -> Tensor:
    """A number for each name, so that rows of one document have the same."""
    found = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([found[name] for name in names])


def draws() -> torch.Generator:
    """The source of a bootstrap's draws, the same for every cell."""
    return torch.Generator().manual_seed(0)


def mean_of(values: Sequence[float], names: Sequence[Any]) -> Interval:
    """A mean with its 95% interval over documents."""
    return mean_interval(torch.tensor(values, dtype=torch.float64), numbered(names), generator=draws())


def fve_of(errors: Sequence[float], deviations: Sequence[float], names: Sequence[Any]) -> Interval:
    """FVE with its 95% interval over documents."""
    sides = (torch.tensor(side, dtype=torch.float64) for side in (errors, deviations))
    return fve_interval(*sides, numbered(names), generator=draws())


def correlation_of(first: Sequence[float], second: Sequence[float], names: Sequence[Any]) -> Interval:
    """Rank correlation with its 95% interval over documents; 0 where one side does not vary."""
    from torchmetrics.functional import spearman_corrcoef

    one, two = (torch.tensor(side, dtype=torch.float64) for side in (first, second))

    def statistic(rows: Tensor) -> float:
        if not (one[rows].std() > 0 and two[rows].std() > 0):
            return 0.0
        return float(spearman_corrcoef(one[rows], two[rows]))

    return statistic_interval(statistic, numbered(names), generator=draws())


def shown(found: Interval, digits: int = 2) -> str:
    """A number with its interval."""
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|".join("---" for _ in header)
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, *lines]).replace("\n", f"\n|{rule}|\n", 1)
