"""Points of the steganography sweep: read, written, drawn, and joined over seeds for the suite's rows.

The sweep itself trains (``python -m lightning_modules.stego_sweep``); what it measured is stored in the package.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tl_nla.errors import InputError
from tl_nla.evaluation.bootstrap import Interval, join_seeds
from tl_nla.evaluation.results import Row

STORED = Path(__file__).parent.parent / "storyworld" / "weights" / "steganography_sweep.jsonl"
_REFITTED = ("plain", "refitted_claims", "refitted_style")
MEASURES = (
    *("fve", "fve_written", "extraction_rate", "retention", "retention_written", "paraphrase_excess"),
    *("claim_precision", "claim_precision_facts", "claim_recall", "claims_said", "length", "legibility"),
    *("legibility_excess", *(f"fve_{reader}{of}" for of in ("", "_written") for reader in _REFITTED)),
    *(f"cross_reconstructor_gap{of}/{kind}" for of in ("", "_written", "_excess") for kind in ("claims", "trained")),
)
"""What a point may hold, see :func:`tl_nla.faithfulness.pair_terms` and ``refitted_errors``."""
_DRAWN = {
    "claim_precision": "claims that are true",
    "cross_reconstructor_gap_excess/claims": "gap to a reader of claims, above written words",
    "cross_reconstructor_gap_excess/trained": "gap to another reconstructor, above written words",
    "paraphrase_excess": "loss by paraphrase, above written words",
}


@dataclass(frozen=True)
class Run:
    """One training run of the sweep."""

    seed: int
    warm_steps: int
    kl_weight: float
    paraphrase: bool
    learning_rate: float = 3e-4

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
    for line in path.read_text(encoding="utf-8").splitlines():
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
        The mean with its interval (:func:`tl_nla.evaluation.bootstrap.join_seeds`), n the number of seeds; ``None``
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


def draw_frontier(points: Sequence[Point], path: Path) -> None:
    """FVE against each measure of faithfulness, one line a run from its warm start on.

    Colour is the warm start, line the KL weight, hollow marks a paraphrased reward; a line begins at its large mark.

    Raises:
        InputError: when there is nothing to draw.
    """
    shown = [name for name in _DRAWN if any(name in point.measures for point in points)]
    if not points or not shown:
        raise InputError("no points to draw; run the sweep first")
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    lengths = sorted({point.run.warm_steps for point in points})
    weights = sorted({point.run.kl_weight for point in points})
    colours = dict(zip(lengths, ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#555555"), strict=False))
    lines = dict(zip(weights, ("-", "--", ":", "-."), strict=False))
    with rc_context({"svg.hashsalt": "tl-nla", "font.size": 9}):
        figure = Figure(figsize=(4.0 * len(shown), 4.2), layout="constrained")
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for run in dict.fromkeys(point.run for point in points):
            own = sorted((point for point in points if point.run == run), key=lambda point: point.steps)
            for axis, name in zip(axes, shown, strict=True):
                line = [(p.value("fve"), p.value(name)) for p in own if {"fve", name} <= set(p.measures)]
                if line:
                    colour = colours[run.warm_steps]
                    mark = {"marker": "o", "markersize": 3, "markerfacecolor": "white" if run.paraphrase else colour}
                    axis.plot(*zip(*line, strict=True), lines[run.kl_weight], color=colour, linewidth=1, **mark)
                    axis.plot(*line[0], "s", color=colour, markersize=6, alpha=0.6)
        for axis, name in zip(axes, shown, strict=True):
            axis.set(xlabel="FVE", title=_DRAWN[name])
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(alpha=0.25)
        legend = [Line2D([], [], color=colours[n], label=f"warm start {n}") for n in lengths]
        legend += [Line2D([], [], color="black", linestyle=lines[w], label=f"KL weight {w:g}") for w in weights]
        legend += [Line2D([], [], color="black", marker="o", markerfacecolor="white", label="paraphrased reward")]
        figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
