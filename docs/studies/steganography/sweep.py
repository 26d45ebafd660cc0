"""What keeps a verbalizer from a private code: the warm start, the KL term, or neither? One resumable sweep.

    python -m docs.studies.steganography.sweep FOLDER --kl 0 0.2 --warm 100 1000 --steps 0 50 100 200 --paraphrase 0 1

Every point of the grid is a pair after so many steps of reinforcement learning. Points of one run (same warm start, KL
weight, paraphrase, rate and seed) are measured on the way. Each is a line of ``FOLDER/points.jsonl`` as soon as its run
is over; runs whose points are all there are not repeated. ``--store`` copies the points to where ``tl-nla evaluate
steganography`` finds them, ``--figure`` draws the frontier of FVE against what it cost.
"""

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from docs.studies.faithfulness.withholding_rows import frontier, load_rows
from docs.studies.steganography.figure import draw_frontier, draw_precision
from docs.studies.steganography.sweep_rows import STORED, Point, Run, read_points, write_point
from tl_nla.errors import InputError
from tl_nla.paths import user_path

POINTS = "points.jsonl"


@dataclass(frozen=True)
class SweepConfig:
    """The grid.

    Attributes:
        kl_weights: weights of the KL term.
        warm_steps: lengths of the warm start, optimiser steps of either part.
        steps: steps of reinforcement learning after which a pair is measured; 0 is the warm start itself.
        paraphrase: whether the reward is that of the paraphrased words.
        seeds: of the warm start and of everything random after it.
        learning_rates: of the verbalizer during reinforcement learning.
        reconstructor_learning_rate: of the reconstructor.
        batch_size: activations a step.
        group: explanations an activation.
        max_new_tokens: cap of a sampled response; written explanations take 26 tokens on average, 47 at most.
        documents: stories to train on.
        held_out: held-out stories to measure on, six positions each.
    """

    kl_weights: tuple[float, ...] = (0.0, 0.2)
    warm_steps: tuple[int, ...] = (100, 1000)
    steps: tuple[int, ...] = (0, 50, 100, 200)
    paraphrase: tuple[bool, ...] = (False, True)
    seeds: tuple[int, ...] = (0,)
    learning_rates: tuple[float, ...] = (1e-4,)
    reconstructor_learning_rate: float = 3e-4
    batch_size: int = 8
    group: int = 4
    max_new_tokens: int = 60
    documents: int = 600
    held_out: int = 50

    def __post_init__(self) -> None:
        """Refuse an empty or impossible grid."""
        for name in ("kl_weights", "warm_steps", "steps", "paraphrase", "seeds", "learning_rates"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty; give at least one value")
        if min(self.kl_weights) < 0 or min(self.warm_steps) < 1 or min(self.steps) < 0:
            raise InputError("KL weights and steps cannot be negative, a warm start takes at least 1 step")
        if min(self.learning_rates) <= 0:
            raise InputError(f"learning_rates are {self.learning_rates}; each must be above 0")

    def runs(self) -> list[Run]:
        """One run for every setting; its points are measured on the way."""
        settings = (self.seeds, self.warm_steps, self.kl_weights, self.paraphrase, self.learning_rates)
        return [Run(*setting) for setting in itertools.product(*settings)]


Train = Callable[[Run, SweepConfig], list[Point]]
"""Carries out one run and returns its points."""


def sweep(folder: Path, config: SweepConfig, train: Train, limit: int | None = None) -> list[Point]:
    """Carry out what is missing of a grid.

    Args:
        folder: receives ``points.jsonl``.
        config: the grid.
        train: carries out a run; :class:`docs.studies.steganography.sweep_runs.EmbeddedTraining` for the
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
        for point in points:
            if (point.run, point.steps) not in known:
                write_point(folder / POINTS, point)
        known |= {(point.run, point.steps): point for point in points}
    wanted = itertools.product(config.runs(), config.steps)
    return [known[key] for key in wanted if key in known]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the module's command."""
    defaults = SweepConfig()
    parser = argparse.ArgumentParser(prog="python -m docs.studies.steganography.sweep")
    parser.add_argument("folder", type=user_path)
    parser.add_argument("--kl", type=float, nargs="+", default=defaults.kl_weights)
    parser.add_argument("--warm", type=int, nargs="+", default=defaults.warm_steps)
    parser.add_argument("--steps", type=int, nargs="+", default=defaults.steps)
    parser.add_argument("--paraphrase", type=int, nargs="+", choices=(0, 1), default=(0, 1))
    parser.add_argument("--seeds", type=int, nargs="+", default=defaults.seeds)
    parser.add_argument("--rates", type=float, nargs="+", default=defaults.learning_rates)
    parser.add_argument("--reconstructor-rate", type=float, default=defaults.reconstructor_learning_rate)
    parser.add_argument("--batch", type=int, default=defaults.batch_size, help="activations a step")
    parser.add_argument("--group", type=int, default=defaults.group, help="explanations an activation")
    parser.add_argument(
        "--pairs", type=user_path, default=None, help="folder of the warm starts (default FOLDER/pairs)"
    )
    parser.add_argument("--limit", type=int, default=None, help="runs to carry out now at most; 0 only reads")
    parser.add_argument("--figure", type=user_path, default=None, help="draw the frontier of all points in FOLDER here")
    parser.add_argument("--precision-figure", type=user_path, default=None, help="draw claim precision across training")
    parser.add_argument("--store", action="store_true", help="keep all points in FOLDER for the evaluation suite")
    found = parser.parse_args(argv)
    switches = tuple(bool(value) for value in found.paraphrase)
    config = SweepConfig(
        tuple(found.kl), tuple(found.warm), tuple(found.steps), switches, tuple(found.seeds), tuple(found.rates),
        found.reconstructor_rate, found.batch, found.group,
    )  # fmt: skip
    if found.limit != 0:
        from docs.studies.steganography.sweep_runs import EmbeddedTraining
        from docs.studies.warm_pairs import WarmPairs

        train = EmbeddedTraining(WarmPairs(found.pairs or found.folder / "pairs"), found.folder / "last")
        sweep(found.folder, config, train, found.limit)
    points = read_points(found.folder / POINTS) or read_points(STORED)
    if found.store:
        STORED.unlink(missing_ok=True)
        for point in points:
            write_point(STORED, point)
    if found.figure is not None:
        draw_frontier(points, found.figure)
    if found.precision_figure is not None:
        draw_precision(points, frontier(load_rows()[0]), found.precision_figure)


if __name__ == "__main__":
    main()
