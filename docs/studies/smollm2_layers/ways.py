"""Ways to use the NLA of one layer on another: as it is, moved and scaled, or through linear maps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tl_nla.metrics import normalise
from tl_nla.nla.adaptation import StateMap, fit_map

WAYS = ("as_is", "moved", "maps")
_DECAY = 0.03


@dataclass(frozen=True)
class Way:
    """Maps between a layer and that of the NLA.

    Attributes:
        front: from the layer's states to those that the verbalizer reads.
        back: from reconstructions to the layer's states.
    """

    front: StateMap
    back: StateMap


def ways(there: Tensor, here: Tensor) -> dict[str, Way]:
    """All ways, fitted on training states.

    ``moved`` takes the other layer's mean and spread off and puts the NLA's on: one number, and a vector. ``maps`` are
    ridge regressions in both directions.

    Args:
        there: normalised or not, states of the other layer.
        here: states of the NLA's layer at the same positions.
    """
    same = StateMap(torch.eye(here.shape[1]), torch.zeros(here.shape[1]))
    return {
        "as_is": Way(same, same), "moved": Way(_moved(there, here), _moved(here, there)),
        "maps": Way(fit_map(there, here, _DECAY), fit_map(here, there, _DECAY)),
    }  # fmt: skip


def _moved(source: Tensor, target: Tensor) -> StateMap:
    one, two = normalise(source.float()), normalise(target.float())
    means = one.mean(0), two.mean(0)
    factor = ((two - means[1]).square().mean() / (one - means[0]).square().mean()).sqrt()
    return StateMap(factor * torch.eye(one.shape[1]), means[1] - factor * means[0])
