"""Copies of a verbalizer whose words are worse in a known way."""

import copy
from typing import Any

import torch

from tl_nla.nla import NLA


def faded(nla: NLA, language_model: Any, share: float) -> NLA:
    """A copy whose weights lie between the trained ones and those that training started from.

    Args:
        nla: the trained pair.
        language_model: what the verbalizer was copied from before training.
        share: 0 is trained, 1 untrained.
    """
    start, changed = dict(language_model.state_dict()), copy.deepcopy(nla)
    with torch.no_grad():
        for name, weight in changed.verbalizer.model.state_dict().items():
            if name in start and start[name].shape == weight.shape:
                weight.lerp_(start[name].to(weight), share)
    return changed.eval()


def damaged(nla: NLA, noise: float, seed: int) -> NLA:
    """A copy with noise on the weights of its verbalizer, in shares of each weight matrix's spread.

    Args:
        nla: the trained pair.
        noise: standard deviation of the noise beside that of the weights.
        seed: of the noise.
    """
    generator, changed = torch.Generator().manual_seed(seed), copy.deepcopy(nla)
    with torch.no_grad():
        for weight in changed.verbalizer.model.parameters():
            if weight.ndim == 2:
                weight.add_(noise * weight.std() * torch.randn(weight.shape, generator=generator))
    return changed.eval()
