"""What a step of training by reward is computed from, and its loss in shares."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.nla import Generation


@dataclass
class Experience:
    """Rollouts of one batch with what the losses need.

    Attributes:
        acts: one activation a rollout.
        generation: the explanations.
        texts: what the reconstructor reads; empty where extraction failed.
        credited: response tokens that the policy gradient runs over.
        reference: log-probabilities under the frozen warm start; ``None`` when the KL weighs nothing.
    """

    acts: Float[Tensor, "n d_model"]
    generation: Generation
    texts: list[str]
    credited: Bool[Tensor, "n pos"]
    reference: Float[Tensor, "n pos"] | None


Backward = Callable[[Tensor, bool], None]
"""Takes a share of the loss, and whether it is the last one of its step."""


class LossShares:
    """Adds up the shares of a loss, and sends them backward one by one so that their activations can go.

    Processes exchange gradients in the last backward pass of a step, which therefore has to reach every trained
    parameter: the shares that are held go there together.

    Args:
        backward: where shares go; with ``None`` all of them are held, and the total keeps its gradient.
    """

    def __init__(self, backward: Backward | None = None) -> None:
        self._backward = backward
        self._sent: Tensor | None = None
        self._held: Tensor | None = None

    def add(self, share: Float[Tensor, ""], hold: bool = False) -> None:
        """Add a share.

        Args:
            share: already divided by the count of the whole batch.
            hold: keep it for the last backward pass of the step.
        """
        if self._backward is None or hold:
            self._held = share if self._held is None else self._held + share
        else:
            self._backward(share, False)
            self._sent = share.detach() if self._sent is None else self._sent + share.detach()

    def end(self) -> Float[Tensor, ""]:
        """Send what is held, and give back the whole loss.

        Raises:
            RuntimeError: when nothing is held.
        """
        if self._held is None:
            raise RuntimeError("no share of the loss was held; hold the last one of every part")
        total = self._held if self._backward is None else self._held.detach()
        if self._backward is not None:
            self._backward(self._held, True)
        self._held = None
        return total if self._sent is None else total + self._sent


def in_order(parts: list[Float[Tensor, "_ ..."]], rows: list[Int[Tensor, " _"]]) -> Float[Tensor, "n ..."]:
    """What was computed in micro-batches, in the order of the whole batch.

    Args:
        parts: one a micro-batch.
        rows: the numbers of its rows in the whole batch.
    """
    return torch.cat(parts)[torch.cat(rows).argsort().to(parts[0].device)]
