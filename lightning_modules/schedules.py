"""Optimisers with the schedules that the trainings here share."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from lightning_modules.muon import MuonWithAdamW
from tl_nla.errors import unknown

OPTIMIZERS = ("adamw", "muon")


def known_optimizer(name: str) -> str:
    """The name itself.

    Raises:
        InputError: when it is none of ``OPTIMIZERS``.
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return name


def scheduled_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], kind: str, learning_rate: float, weight_decay: float, steps: int
) -> Any:
    """What ``configure_optimizers`` returns: AdamW with a one-cycle schedule (Smith 2018), or Muon with a flat start.

    Args:
        named: named parameters; those that need no gradient are left out.
        kind: ``"adamw"``, or ``"muon"``, which needs no long warm-up.
        learning_rate: the highest of the run; about 0.01 for Muon.
        weight_decay: of both.
        steps: of the run.
    """
    schedule: Any
    optimizer: Any
    trained = [(name, value) for name, value in named if value.requires_grad]
    if known_optimizer(kind) == "muon":
        optimizer = MuonWithAdamW(trained, learning_rate, weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: flat_then_down(step, steps))
    else:
        values = [value for _, value in trained]
        optimizer = torch.optim.AdamW(values, lr=learning_rate, weight_decay=weight_decay)
        schedule = one_cycle(optimizer, learning_rate, steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def flat_then_down(step: int, steps: int, down: float = 0.625) -> float:
    """Share of the learning rate at a step: up within 50 steps, level, then down to nothing over the last steps.

    Args:
        step: from 0.
        steps: of the run.
        down: share of the run over which the rate falls.
    """
    return min(1.0, (step + 1) / 50) * min(1.0, (steps - step) / (down * steps))


def one_cycle(
    optimizer: torch.optim.Optimizer, learning_rate: float, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """One-cycle schedule over a run of any length, its peak after a tenth of it (Smith 2018)."""
    # torch divides by zero where the rising part is exactly one step long.
    rising = 0.1 if steps != 10 else 0.2
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=rising)
