"""Muon for the matrices inside the blocks, AdamW for everything else, as one optimiser for Lightning."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tl_nla.errors import InputError

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


def orthogonalised(matrices: Float[Tensor, "n out in"]) -> Float[Tensor, "n out in"]:
    """Matrices with the same singular vectors and singular values near 1, in the precision of their entries.

    Five rounds of the quintic Newton-Schulz iteration (Jordan 2024, "Muon"), after which singular values lie between
    about .7 and 1.2.

    Args:
        matrices: any that are not all zero.
    """
    first, third, fifth = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices
    found = wide / wide.flatten(1).norm(dim=1)[:, None, None].clamp_min(1e-7)
    for _ in range(_ROUNDS):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), found, beta=first)
    return found.mT if tall else found


def _loss_of(closure: Callable[[], Any] | None) -> Any:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class Float32Muon(torch.optim.Muon):
    """``torch.optim.Muon`` whose iteration stays in float32 and takes all matrices of one shape at once.

    The parent iterates in bfloat16, which a CPU multiplies several times slower than float32 for matrices as small as
    those of the embedded default. It also goes matrix by matrix, where a GPU spends its time on launches. Updates
    differ from the parent's by the rounding of bfloat16 only.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of momentum (Nesterov), decoupled weight decay and an orthogonalised update."""
        loss = _loss_of(closure)
        for group in self.param_groups:
            alike: dict[tuple[Any, ...], list[Tensor]] = {}
            for value in group["params"]:
                if value.grad is not None:
                    alike.setdefault((value.shape, value.device, value.dtype), []).append(value)
            for values in alike.values():
                self._update(values, group)
        return loss

    def _update(self, values: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [value.grad for value in values if value.grad is not None]
        for value, gradient in zip(values, gradients, strict=True):
            if "momentum_buffer" not in self.state[value]:
                self.state[value]["momentum_buffer"] = torch.zeros_like(gradient)
        buffers, momentum = [self.state[value]["momentum_buffer"] for value in values], group["momentum"]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        ahead = torch.stack(torch._foreach_lerp(gradients, buffers, momentum))
        updates = orthogonalised(ahead.float()).to(ahead).unbind()
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        out, width = values[0].shape
        torch._foreach_add_(values, updates, alpha=-group["lr"] * max(1.0, out / width) ** 0.5)


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
        self.parts: list[torch.optim.Optimizer] = [Float32Muon(whole, lr=lr, weight_decay=weight_decay)]
        if rest:
            self.parts.append(torch.optim.AdamW(rest, lr=lr / 10, weight_decay=0.0, betas=(0.9, 0.98)))
        super().__init__([{"params": [value for _, value in trained]}], {"lr": lr})
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = _loss_of(closure)
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
