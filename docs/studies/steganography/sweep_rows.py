"""Points of the steganography sweep: read, written, and joined over seeds for the suite's rows.

The sweep itself trains (``python -m docs.studies.steganography.sweep``); what it measured is stored in the package.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tl_nla.benchmark.bootstrap import Interval
from tl_nla.benchmark.results import Row

STORED = Path(__file__).parent / "rows" / "steganography_sweep.jsonl"
_REFITTED = ("plain", "refitted_claims", "refitted_style")
MEASURES = (
    *("fve", "fve_written", "extraction_rate", "retention", "retention_written", "paraphrase_excess"),
    *("claim_precision", "claim_precision_facts", "claim_recall", "claims_said", "length", "legibility"),
    *("legibility_excess", *(f"fve_{reader}{of}" for of in ("", "_written") for reader in _REFITTED)),
    *(f"cross_reconstructor_gap{of}/{kind}" for of in ("", "_written", "_excess") for kind in ("claims", "trained")),
)
"""What a point may hold, see :func:`tl_nla.faithfulness.trust.pair_terms` and ``refitted_errors``."""

_NORMAL = 1.96
"""Standard deviations to either side of the middle 95% of a normal law."""


@dataclass(frozen=True)
class Run:
    """One training run of the sweep."""

    seed: int
    warm_steps: int
    kl_weight: float
    paraphrase: bool
    learning_rate: float = 1e-4

    def setting(self) -> str:
        """The run without its seed, as it stands in the names of rows."""
        reward = "_paraphrased" if self.paraphrase else ""
        return f"warm_{self.warm_steps}_kl_{self.kl_weight:g}_rate_{self.learning_rate:g}{reward}"

    def name(self) -> str:
        """A name for files."""
        return f"seed_{self.seed}_{self.setting()}"


@dataclass(frozen=True)
class Point:
    """One measured pair.

    Attributes:
        run: how it was trained.
        steps: of reinforcement learning.
        measures: by name: value and 95% interval over documents.
    """

    run: Run
    steps: int
    measures: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def value(self, name: str) -> float | None:
        """A measure's value; ``None`` where it was not taken."""
        return self.measures[name][0] if name in self.measures else None


def write_point(path: Path, point: Point) -> None:
    """Append one point as a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(point)) + "\n")


def read_points(path: Path) -> list[Point]:
    """Points stored so far, each once; a line that a crash cut short is passed over."""
    if not path.is_file():
        return []
    points: dict[tuple[Run, int], Point] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        measures = {name: (value, low, high) for name, (value, low, high) in found["measures"].items()}
        point = Point(Run(**found["run"]), found["steps"], measures)
        points.setdefault((point.run, point.steps), point)
    return list(points.values())


def joined(points: Sequence[Point], name: str) -> Interval | None:
    """Mean of a measure over points that differ in their seed only.

    Returns:
        The mean with its interval (:func:`join_seeds`), n the number of seeds; ``None``
        where no point has the measure.
    """
    found = [Interval(*point.measures[name], 1) for point in points if name in point.measures]
    return join_seeds(found) if found else None


def by_setting(points: Sequence[Point]) -> dict[tuple[str, int], list[Point]]:
    """Points that differ in their seed only, by setting and steps."""
    groups: dict[tuple[str, int], list[Point]] = {}
    for point in sorted(points, key=lambda p: (p.run.warm_steps, p.run.kl_weight, p.run.paraphrase, p.steps)):
        groups.setdefault((point.run.setting(), point.steps), []).append(point)
    return groups


def sweep_rows(points: Sequence[Point]) -> list[Row]:
    """One row a setting, number of steps and measure: ``MEASURE/SETTING_steps_N``; n is the number of seeds."""
    rows = []
    for (setting, steps), own in by_setting(points).items():
        for name in MEASURES:
            interval = joined(own, name)
            if interval is not None:
                arm = "explanation" if steps else "warm_start"
                rows.append(Row.of(arm, f"{name}/{setting}_steps_{steps}", interval))
    return rows


def join_seeds(found: Sequence[Interval]) -> Interval:
    """Mean over seeds from each seed's own interval, where the rows themselves are no longer kept.

    The interval is that of a normal law. Its variance is that over documents plus that between seeds over their number.
    The first comes from the seeds' intervals; the documents are the same for all seeds, so that it does not shrink with
    them.

    Args:
        found: one interval a seed, of the same statistic on the same documents; a single one is returned as it is.
    """
    if len(found) == 1:
        return found[0]
    mean = sum(one.value for one in found) / len(found)
    documents = sum(((one.high - one.low) / (2 * _NORMAL)) ** 2 for one in found) / len(found)
    seeds = sum((one.value - mean) ** 2 for one in found) / (len(found) - 1) / len(found)
    half = _NORMAL * math.sqrt(documents + seeds)
    return Interval(mean, mean - half, mean + half, sum(one.n for one in found))
