"""Optimisers with the schedules that the trainings here share.

A schedule is a function of the step and of the run's length. A checkpoint stores the step alone, so that a run may be
continued to more or fewer steps than it was begun for.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from lightning_modules.training.muon import MuonWithAdamW
from tl_nla.errors import InputError, unknown

OPTIMIZERS = ("adamw", "muon")
_RISE = 50
WHOLE = 0.1
"""Rate of whole matrices as a share of that of low-rank adapters beside them."""


def known_optimizer(name: str) -> str:
    """The name itself.

    Raises:
        InputError: when it is none of ``OPTIMIZERS``.
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return name


def check_rates(**rates: float) -> None:
    """Refuse learning rates and weights that are not above 0, or that are no numbers."""
    for name, value in rates.items():
        least = "0 or above" if "decay" in name else "above 0"
        if not math.isfinite(value) or value < 0 or (value == 0 and least == "above 0"):
            raise InputError(f"{name} is {value}; allowed: a number {least}")


def run_length(trainer: Any) -> int | None:
    """Optimiser steps of a whole run, those before a resume included; ``None`` where it has no limit of steps.

    Args:
        trainer: of Lightning; with ``max_time`` or ``max_epochs=-1`` alone it knows no number of steps.

    Raises:
        InputError: for a run without a single step.
    """
    asked = trainer.fit_loop._combined_loader is None
    steps = 0 if trainer.limit_train_batches == 0 else trainer.estimated_stepping_batches
    if asked:
        # To count batches Lightning makes the loader, and would not put it back where a checkpoint stood in it, which
        # is read only after this. Made again when the training starts, it is put back.
        trainer.fit_loop._combined_loader = None
    if steps in (math.inf, -1):
        return None
    if steps < 1:
        raise InputError(
            f"the run has {steps} steps (max_steps {trainer.max_steps}, max_epochs {trainer.max_epochs}, "
            f"limit_train_batches {trainer.limit_train_batches}); nothing would be trained"
        )
    return int(steps)


def scheduled_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], kind: str, learning_rate: float, weight_decay: float, steps: int | None
) -> Any:
    """What ``configure_optimizers`` returns: AdamW with a one-cycle schedule (Smith 2018), or Muon with a flat start.

    Args:
        named: named parameters; those that need no gradient are left out.
        kind: ``"adamw"``, or ``"muon"``, which needs no long warm-up.
        learning_rate: the highest of the run; about 0.01 for Muon.
        weight_decay: of both.
        steps: of the run (:func:`run_length`). Without a limit, the rate rises within 50 steps and stays there.
    """
    optimizer = new_optimizer(named, kind, learning_rate, weight_decay=weight_decay)
    flat = kind == "muon" or steps is None
    schedule = FlatThenDown(optimizer, steps) if flat else one_cycle(optimizer, learning_rate, int(steps or 0))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def adapter_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], learning_rate: float, weight_decay: float, steps: int | None
) -> Any:
    """As :func:`scheduled_optimizer` with AdamW, for low-rank adapters beside whole matrices.

    Whole matrices (slots, a head) get a tenth of the adapters' rate: at the rate that suits factors of low rank they
    would lose what they started with. Without an adapter every parameter has the rate itself.

    Args:
        named: named parameters; those that need no gradient are left out.
        learning_rate: the highest of the run, of the adapters.
        weight_decay: of all.
        steps: of the run (:func:`run_length`).
    """
    trained = [(name, value) for name, value in named if value.requires_grad]
    factors = [value for name, value in trained if ".lora_" in name]
    whole = [value for name, value in trained if ".lora_" not in name]
    if not factors or not whole:
        return scheduled_optimizer(trained, "adamw", learning_rate, weight_decay, steps)
    rates = [learning_rate, learning_rate * WHOLE]
    groups = [{"params": part, "lr": rate} for part, rate in zip((factors, whole), rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay)
    schedule = FlatThenDown(optimizer, None) if steps is None else one_cycle(optimizer, rates, steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def new_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], kind: str, learning_rate: float, **settings: Any
) -> torch.optim.Optimizer:
    """One of ``OPTIMIZERS``.

    Args:
        named: named parameters; those that need no gradient are left out.
        kind: its name.
        learning_rate: of AdamW, or of Muon.
        settings: others, such as ``weight_decay``; the optimiser's own where they are left out.
    """
    trained = [(name, value) for name, value in named if value.requires_grad]
    if known_optimizer(kind) == "muon":
        return MuonWithAdamW(trained, learning_rate, **settings)
    return torch.optim.AdamW([value for _, value in trained], lr=learning_rate, **settings)


def flat_then_down(step: int, steps: int | None, down: float = 0.625, rise: int = _RISE) -> float:
    """Share of the learning rate at a step: up over the first steps, level, then down to nothing over the last ones.

    Args:
        step: from 0.
        steps: of the run; ``None`` never comes down.
        down: share of the run over which the rate falls.
        rise: steps over which the rate rises.
    """
    risen = min(1.0, (step + 1) / rise)
    return risen if steps is None else risen * min(1.0, max(0, steps - step) / (down * steps))


def one_cycle(optimizer: torch.optim.Optimizer, learning_rate: float | list[float], steps: int) -> "OneCycle":
    """One-cycle schedule over a run of any length, its peak after a tenth of it (Smith 2018)."""
    # torch divides by zero where the rising part is exactly one step long.
    rising = 0.1 if steps != 10 else 0.2
    return OneCycle(optimizer, learning_rate, total_steps=steps, pct_start=rising)


class _GoesOn(LRScheduler):
    """A schedule whose state is the step; its length and its rates are always those of the present run."""

    def state_dict(self) -> dict[str, Any]:
        """The step."""
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the step of a checkpoint; whatever else is in its state belongs to the run that wrote it."""
        self._step_count = max(2, int(state_dict["_step_count"]))  # at 1 torch warns that no step was made yet
        self.last_epoch = int(state_dict["last_epoch"]) - 1
        self.step()


class FlatThenDown(_GoesOn, LambdaLR):
    """:func:`flat_then_down` as a schedule."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, steps: int | None, down: float = 0.625, rise: int = _RISE
    ) -> None:
        super().__init__(optimizer, lambda step: flat_then_down(step, steps, down, rise))


class OneCycle(_GoesOn, OneCycleLR):
    """torch's schedule, which raises when a run outlives the length that it was made for; this one stays at its end."""

    def __init__(self, optimizer: torch.optim.Optimizer, learning_rate: float | list[float], **settings: Any) -> None:
        super().__init__(optimizer, learning_rate, **settings)
        names = ("initial_lr", "max_lr", "min_lr")
        self._own = [{name: group[name] for name in names} for group in optimizer.param_groups]

    def get_lr(self) -> list[float | torch.Tensor]:
        """Rates of the present step, or of the last one."""
        step, self.last_epoch = self.last_epoch, min(self.last_epoch, self.total_steps - 1)
        try:
            return super().get_lr()
        finally:
            self.last_epoch = step

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the step of a checkpoint."""
        # The optimiser was restored before this, with the rates of the run that wrote the checkpoint.
        for group, own in zip(self.optimizer.param_groups, self._own, strict=True):
            group.update(own)
        super().load_state_dict(state_dict)
