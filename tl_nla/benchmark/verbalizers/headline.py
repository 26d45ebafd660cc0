"""The headline of a task: the score minus that of the best control, with an interval clustered by document."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.benchmark.bootstrap import Interval, difference_to_best
from tl_nla.errors import InputError


@dataclass(frozen=True)
class Headline:
    """How far an arm is above the best control.

    Attributes:
        best: the control with the best score.
        gain: the score minus the best control's.
    """

    best: str
    gain: Interval

    @property
    def passed(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.gain.low > 0


def headline(
    own: Float[Tensor, " n"], controls: Mapping[str, Float[Tensor, " n"]], document: Int[Tensor, " n"], seed: int,
    resamples: int = 1000,
) -> Headline:  # fmt: skip
    """Compare an arm with whichever control is best; it is chosen again in every drawn sample of documents.

    Args:
        own: one score a row.
        controls: scores of the same rows by control.
        document: of each row.
        seed: of the bootstrap.
        resamples: drawn samples.

    Raises:
        InputError: without controls.

    Example:
        >>> headline(own, {"mean": mean, "black_box_end": quoted}, document, seed=0).gain.low > 0
    """
    if not controls:
        raise InputError("a headline needs a control; none could be run")
    best = max(controls, key=lambda name: float(controls[name].mean()))
    generator = torch.Generator().manual_seed(seed)
    gain = difference_to_best(own, list(controls.values()), document, generator=generator, resamples=resamples)
    return Headline(best, gain)
