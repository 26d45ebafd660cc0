"""How far two numbers may differ when the only difference is rounding, element by element.

A sum that a model forms in bfloat16 is rounded when it is stored. The error of one rounding is at most half a step of
the *result*, so it is judged against the terms of the same element, never against the largest number of the tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROUNDINGS = 2.0
"""Stored roundings that one formula may contain, each judged against the sum of all its terms and its result."""
SUMMATION = 256 * torch.finfo(torch.float32).eps
"""Relative error of a long sum in float32, in which half-precision products are summed too."""


@dataclass(frozen=True)
class Fit:
    """How well a formula reproduces numbers that a model gave.

    Attributes:
        error: root mean square of the difference, as a share of the root mean square of the terms.
        excess: largest difference of any element in units of what rounding permits there; at most 1 is exact.
    """

    error: float
    excess: float

    @property
    def exact(self) -> bool:
        """Whether rounding explains every difference."""
        return self.excess <= 1.0

    def __str__(self) -> str:
        return f"off by {self.error:.2%}, {self.excess:.3g} times what rounding permits"


NO_FIT = Fit(float("inf"), float("inf"))


def unmixed(like: Tensor) -> Any:
    """A context in which products of float32 tensors stay in float32, whatever autocast the model runs under."""
    return torch.autocast(like.device.type, enabled=False)


def step_of(*tensors: Tensor) -> float:
    """The coarsest relative step among the tensors' precisions."""
    return max(torch.finfo(tensor.dtype).eps for tensor in tensors)


def allowed_error(terms: Sequence[Tensor], step: float) -> Tensor:
    """The error that rounding permits for each element.

    Args:
        terms: what is added up (and the result), all of one shape, float32.
        step: relative step of the precision in which results are stored, see :func:`step_of`.
    """
    size = torch.stack([term.abs() for term in torch.broadcast_tensors(*terms)]).sum(0)
    # Products are summed in float32: their error goes with the size of the row, not with that of one element.
    row = size.square().mean(-1, keepdim=True).sqrt()
    half = ROUNDINGS * step / 2
    return half * size + SUMMATION * (size + row) + torch.finfo(torch.float32).tiny


def compare(given: Tensor, terms: Sequence[Tensor], step: float) -> Fit:
    """Compare numbers of the model with a sum of terms that should give them.

    Args:
        given: the model's numbers.
        terms: float32 tensors whose sum should equal ``given``.
        step: relative step of the precision in which the model stores, see :func:`step_of`.
    """
    given = given.float()
    terms = [term.float() for term in torch.broadcast_tensors(given, *terms)][1:]
    if not given.numel():
        return Fit(0.0, 0.0)
    difference = given - torch.stack(terms).sum(0)
    excess = (difference.abs() / allowed_error([given, *terms], step)).max()
    scale = torch.stack([given, *terms]).square().sum(0).mean().sqrt()
    error = difference.square().mean().sqrt() / scale.clamp_min(torch.finfo(torch.float32).tiny)
    found = Fit(error.item(), excess.item())
    return found if found.excess == found.excess and found.error == found.error else NO_FIT


def same_state(fast: Tensor, slow: Tensor, times: float = 1.0) -> bool:
    """Whether two computations of the same states differ by no more than a few roundings of their size.

    Args:
        fast: one of them.
        slow: the other, in the model's precision.
        times: how many times as much is permitted.
    """
    error = (fast.float() - slow.float()).norm()
    step = max(torch.finfo(slow.dtype).eps, SUMMATION)
    return bool(error <= 4 * times * step * slow.float().norm())
