"""Muon for the matrices inside the blocks, AdamW for everything else, as one optimiser for Lightning."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from tl_nla.errors import InputError


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
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
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
