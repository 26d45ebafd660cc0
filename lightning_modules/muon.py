"""Muon for the matrices inside the blocks, AdamW for everything else, as one optimiser for Lightning."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from tl_nla.errors import InputError, unknown

OPTIMIZERS = ("adamw", "muon")


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon (Jordan 2024) on weight matrices, AdamW at a tenth of its rate on embeddings, heads, norms and biases.

    Both share one list of parameter groups, so schedules and checkpoints treat them as one optimiser.

    Args:
        named: named parameters; those that need no gradient are left out.
        lr: learning rate of Muon.
        weight_decay: of Muon.
        plain: parameters whose name holds one of these texts are AdamW's, whatever their shape.
    """

    def __init__(
        self, named: Iterable[tuple[str, nn.Parameter]], lr: float = 0.01, weight_decay: float = 0.02,
        plain: tuple[str, ...] = ("embed", "wte", "wpe", "lm_head", "head.weight"),
    ) -> None:  # fmt: skip
        trained = [(name, value) for name, value in named if value.requires_grad]
        whole = [value for name, value in trained if value.ndim == 2 and not any(part in name for part in plain)]
        if not whole:
            raise InputError("there is no weight matrix for Muon to train; use optimizer='adamw'")
        rest = [value for _, value in trained if not any(value is matrix for matrix in whole)]
        self.parts: list[torch.optim.Optimizer] = [torch.optim.Muon(whole, lr=lr, weight_decay=weight_decay)]
        if rest:
            self.parts.append(torch.optim.AdamW(rest, lr=lr / 10, weight_decay=0.0, betas=(0.9, 0.98)))
        super().__init__([{"params": [value for _, value in trained]}], {"lr": lr})
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the states of both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


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
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def flat_then_down(step: int, steps: int) -> float:
    """Share of the learning rate at a step: up within 50 steps, level, then down over the last five eighths."""
    return min(1.0, (step + 1) / 50) * min(1.0, 1.6 * (steps - step) / steps)
