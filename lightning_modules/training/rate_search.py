"""The learning rate of a recipe, found on your model: short trainings at several rates, the best one kept.

A step of Muon moves a matrix by its rate, whatever the matrix's own size, so what suits one model wipes another's
pretraining out. A long stage needs a smaller rate than a short one, since it moves the weights further. Two story
models of 260,000 parameters, FVE of heads' labels, one seed each: over 200 steps .02 was better than .005 (.02 against
-.24). Over 1,500 steps .005 was better than .02 and .002 (.26 against .15 and .14). The rate of the short trainings is
therefore taken times ``(short / long) ** 0.7``, the smallest power that fits both.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from lightning_modules.training.stage import StageSpec, run_stage
from tl_nla.errors import InputError

RATES = (0.04, 0.02, 0.01, 0.005, 0.0025)
"""Rates of Muon that are tried, largest first."""
_SHARE, _LEAST_STEPS, _POWER = 0.2, 20, 0.7
_SCORED_ROWS, _SCORED_AT_ONCE = 512, 64


@dataclass(frozen=True)
class FoundRate:
    """What a search gives.

    Attributes:
        rate: for the whole stage.
        best: of the short trainings.
        losses: of each rate that was tried, on rows that few of its steps saw.
    """

    rate: float
    best: float
    losses: dict[float, float]


def find_rate(
    module: nn.Module, spec_of: Callable[[nn.Module], StageSpec], rates: Sequence[float] = RATES,
    tell: Callable[[int, int], None] | None = None,
) -> FoundRate:  # fmt: skip
    """Train copies of a module for a fifth of a stage each, at falling rates; stop where the loss rises twice.

    Args:
        module: the start; left as it is.
        spec_of: the stage of a copy of it.
        rates: that are tried, largest first.
        tell: takes the number of rates tried and of all rates.

    Raises:
        InputError: when no rate gives a finite loss.
    """
    losses: dict[float, float] = {}
    shorter = 1.0
    for number, rate in enumerate(sorted(rates, reverse=True)):
        twin = copy.deepcopy(module)
        spec = spec_of(twin)
        steps = min(spec.config.steps, max(_LEAST_STEPS, round(_SHARE * spec.config.steps)))
        config = replace(spec.config, steps=steps, learning_rate=rate, rise=max(1, min(spec.config.rise, steps // 4)))
        run_stage(twin, replace(spec, config=config, score=None))
        shorter = steps / spec.config.steps
        losses[rate] = _loss(twin, spec)
        if tell is not None:
            tell(number + 1, len(rates))
        best = min(losses, key=lambda known: losses[known])
        if len([known for known in losses if known < best]) >= 2:
            break
    finite = {rate: loss for rate, loss in losses.items() if loss < float("inf")}
    if not finite:
        raise InputError(f"no learning rate of {sorted(losses)} gives a finite loss; give smaller ones, or float32")
    best = min(finite, key=lambda rate: finite[rate])
    return FoundRate(best * shorter**_POWER, best, losses)


@torch.no_grad()
def _loss(module: nn.Module, spec: StageSpec) -> float:
    """Mean loss of some rows, the same for every rate; infinite where it is no number."""
    module.eval()
    rows = torch.randperm(spec.rows, generator=torch.Generator().manual_seed(7))[:_SCORED_ROWS]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        values = [float(spec.loss(part)) * len(part) for part in rows.split(_SCORED_AT_ONCE)]
    mean = sum(values) / len(rows)
    return mean if mean == mean else float("inf")
