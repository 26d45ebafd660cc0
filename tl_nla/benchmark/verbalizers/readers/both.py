"""Two readers as one: their scores, each at mean 0 and spread 1 in a row, are added."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.base import BlindReader


class BothReaders:
    """Adds the standardised scores of two readers."""

    def __init__(self, first: BlindReader, second: BlindReader) -> None:
        self.first, self.second, self.name = first, second, f"{first.name} and {second.name}"

    def scores(
        self, words: Sequence[str], candidates: Sequence[Sequence[Sequence[int]]],
        question: Sequence[Sequence[int]] = (),
    ) -> Float[Tensor, "n k"]:  # fmt: skip
        """As of :class:`tl_nla.benchmark.verbalizers.readers.base.BlindReader`."""
        both = [one.scores(words, candidates, question).double() for one in (self.first, self.second)]
        return torch.stack([_standard(one) for one in both]).sum(0)


def _standard(scores: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    centred = scores - scores.mean(1, keepdim=True)
    spread = centred.std(1, keepdim=True)
    # Rows in which a reader learns nothing stay at 0: rounding is no opinion.
    return torch.where(spread > 1e-6, centred / spread.clamp(min=1e-6), torch.zeros_like(centred))
