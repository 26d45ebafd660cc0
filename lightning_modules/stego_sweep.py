"""What keeps a verbalizer from a private code: the warm start, the KL term, or neither? One resumable sweep.

    python -m lightning_modules.stego_sweep FOLDER --kl 0 0.01 0.1 --warm 200 2000 --steps 0 50 100 --paraphrase 0 1

Every point of the grid is a pair after so many steps of reinforcement learning; points of one run (same warm start, KL
weight and paraphrase) are measured on the way. Each is a line of ``FOLDER/points.jsonl`` as soon as it is known, runs
whose points are all there are not repeated, and ``FOLDER/frontier.png`` shows FVE against what it cost.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tl_nla.errors import InputError

POINTS, FIGURE = "points.jsonl", "frontier.png"
MEASURES = ("fve", "retention", "claim_precision", "cross_reconstructor_gap", "legibility", "extraction_rate")


@dataclass(frozen=True)
class SweepConfig:
    """The grid.

    Attributes:
        kl_weights: weights of the KL term.
        warm_steps: lengths of the warm start, optimiser steps.
        steps: steps of reinforcement learning after which a pair is measured; 0 is the warm start itself.
        paraphrase: whether the reward is that of the paraphrased words.
        seeds: of everything random.
        learning_rate: of the verbalizer during reinforcement learning.
        reconstructor_learning_rate: of the reconstructor.
        batch_size: activations a step.
        documents: stories to train on.
        held_out: held-out stories to measure on.
    """

    kl_weights: tuple[float, ...] = (0.0, 0.01, 0.1)
    warm_steps: tuple[int, ...] = (200, 2000)
    steps: tuple[int, ...] = (0, 50, 100, 200)
    paraphrase: tuple[bool, ...] = (False, True)
    seeds: tuple[int, ...] = (0,)
    learning_rate: float = 3e-4
    reconstructor_learning_rate: float = 3e-4
    batch_size: int = 8
    documents: int = 600
    held_out: int = 30

    def __post_init__(self) -> None:
        """Refuse an empty or impossible grid."""
        for name in ("kl_weights", "warm_steps", "steps", "paraphrase", "seeds"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty; give at least one value")
        if min(self.kl_weights) < 0 or min(self.warm_steps) < 1 or min(self.steps) < 0:
            raise InputError("KL weights and steps cannot be negative, a warm start takes at least 1 step")

    def runs(self) -> list["Run"]:
        """One run for every setting; its points are measured on the way."""
        settings = itertools.product(self.seeds, self.warm_steps, self.kl_weights, self.paraphrase)
        return [Run(*setting) for setting in settings]


@dataclass(frozen=True)
class Run:
    """One training run of the sweep."""

    seed: int
    warm_steps: int
    kl_weight: float
    paraphrase: bool


@dataclass(frozen=True)
class Point:
    """One measured pair: the run, the steps of reinforcement learning, and the measures by name."""

    run: Run
    steps: int
    measures: dict[str, float] = field(default_factory=dict)


Train = Callable[[Run, SweepConfig], list[Point]]
"""Carries out one run and returns its points."""


def sweep(folder: Path, config: SweepConfig, train: Train, limit: int | None = None) -> list[Point]:
    """Carry out what is missing of a grid.

    Args:
        folder: receives ``points.jsonl``.
        config: the grid.
        train: carries out a run; :class:`lightning_modules.stego_runs.EmbeddedTraining` for the
            embedded world.
        limit: runs to carry out at most now; the rest is for the next call.

    Returns:
        All points of the grid known so far.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = {(point.run, point.steps): point for point in read_points(folder / POINTS)}
    missing = [run for run in config.runs() if any((run, steps) not in known for steps in config.steps)]
    for run in missing[:limit]:
        points = [point for point in train(run, config) if point.steps in config.steps]
        with (folder / POINTS).open("a", encoding="utf-8") as file:
            for point in points:
                if (point.run, point.steps) not in known:
                    file.write(json.dumps(asdict(point)) + "\n")
        known |= {(point.run, point.steps): point for point in points}
    wanted = itertools.product(config.runs(), config.steps)
    return [known[key] for key in wanted if key in known]


def read_points(path: Path) -> list[Point]:
    """Points stored so far; a last line that a crash cut short is passed over."""
    if not path.is_file():
        return []
    points = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        points.append(Point(Run(**found["run"]), found["steps"], found["measures"]))
    return points


def draw_frontier(points: Sequence[Point], path: Path) -> None:
    """FVE against each measure of faithfulness, one line a run from its warm start on.

    Raises:
        InputError: when there is nothing to draw.
    """
    if not points:
        raise InputError("no points to draw; run the sweep first")
    from matplotlib.figure import Figure

    shown = [name for name in MEASURES[1:5] if any(name in point.measures for point in points)]
    figure = Figure(figsize=(4.2 * len(shown), 3.8), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for run in dict.fromkeys(point.run for point in points):
        own = sorted((point for point in points if point.run == run), key=lambda point: point.steps)
        label = f"warm start {run.warm_steps}, KL {run.kl_weight:g}" + (", paraphrased" if run.paraphrase else "")
        for axis, name in zip(axes, shown, strict=True):
            line = [(p.measures["fve"], p.measures[name]) for p in own if name in p.measures]
            axis.plot(*zip(*line, strict=True), marker="o", markersize=3, linewidth=1,
                      linestyle="--" if run.paraphrase else "-", label=label)  # fmt: skip
    for axis, name in zip(axes, shown, strict=True):
        axis.set(xlabel="FVE", ylabel=name.replace("_", " "))
        axis.grid(alpha=0.3)
    axes[-1].legend(fontsize=7)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the module's command."""
    defaults = SweepConfig()
    parser = argparse.ArgumentParser(prog="python -m lightning_modules.stego_sweep")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kl", type=float, nargs="+", default=defaults.kl_weights)
    parser.add_argument("--warm", type=int, nargs="+", default=defaults.warm_steps)
    parser.add_argument("--steps", type=int, nargs="+", default=defaults.steps)
    parser.add_argument("--paraphrase", type=int, nargs="+", choices=(0, 1), default=(0, 1))
    parser.add_argument("--seeds", type=int, nargs="+", default=defaults.seeds)
    parser.add_argument(
        "--reference", type=Path, action="append", default=[], help="an AR never trained with these AVs"
    )
    parser.add_argument("--limit", type=int, default=None, help="runs to carry out now at most")
    found = parser.parse_args(argv)
    switches = tuple(bool(value) for value in found.paraphrase)
    config = SweepConfig(tuple(found.kl), tuple(found.warm), tuple(found.steps), switches, tuple(found.seeds))
    from lightning_modules.stego_runs import EmbeddedTraining

    train = EmbeddedTraining(found.folder / "warm_starts", found.reference)
    draw_frontier(sweep(found.folder, config, train, found.limit), found.folder / FIGURE)


if __name__ == "__main__":
    main()
