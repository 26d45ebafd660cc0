"""What a blind reader is, and how often two of them agree."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class BlindReader(Protocol):
    """Reads words and weighs candidates; it sees neither vector, text nor model.

    Any object with a name and this method is a judge, such as one that asks a large language model.
    """

    name: str

    def scores(
        self, words: Sequence[str], candidates: Sequence[Sequence[Sequence[int]]],
        question: Sequence[Sequence[int]] = (),
    ) -> Float[Tensor, "n k"]:  # fmt: skip
        """A score for each candidate of each row, higher where it goes better with the words.

        Args:
            words: one text a row.
            candidates: token ids of the target's tokenizer.
            question: token ids of what is asked, one list a row; none when empty.
        """
        ...


def picked(scores: Float[Tensor, "n k"], right: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Share of the first place that the right candidate has: candidates with equal scores share it.

    A reader that learns nothing scores exactly chance, wherever the right candidate stands.
    """
    best = scores.max(1, keepdim=True).values
    first = (scores >= best - 1e-5 * best.abs().clamp(min=1)).double()
    return first.gather(1, right[:, None])[:, 0] / first.sum(1)


def agreement(one: Float[Tensor, "n k"], other: Float[Tensor, "n k"]) -> float:
    """Share of rows in which two readers pick the same candidate."""
    return float((one.argmax(1) == other.argmax(1)).double().mean())
