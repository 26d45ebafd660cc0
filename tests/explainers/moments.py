"""Moments for tests of explainers."""

import torch

from tl_nla.explainers import Moment

GUESSES = [("one", 0.9), ("two", 0.05)]


def moments(count=3, **settings):
    return [
        Moment(
            f"text number {i}", f"number {i}", [("one", 0.9), ("two", 0.05)], torch.zeros(2), i, "blocks.1", **settings
        )
        for i in range(count)
    ]
