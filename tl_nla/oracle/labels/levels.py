"""Questions about a write that are answered with one word of a few."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """A label that is one of a few words: everything that captures, prompts and answers have to know about it.

    ``QUESTIONS`` of :mod:`tl_nla.oracle.questions` lists those that can be asked.

    Attributes:
        name: of the question.
        wording: how it is put to a verbalizer.
        short: the same for the embedded default's small verbalizer: a space and one word of its vocabulary that no
            other question has.
        words: the possible answers.
        measure: from writes and the states before them, both ``[n, d_model]``, to indices into ``words``; -1 where
            there is no answer.
    """

    name: str
    wording: str
    short: str
    words: tuple[str, ...]
    measure: Callable[[Tensor, Tensor], Int[Tensor, " n"]]

    def told(self, write: Tensor, before: Tensor) -> list[tuple[str, ...]]:
        """The right word of each write, and no word where there is no answer."""
        return [(self.words[level],) if level >= 0 else () for level in self.measure(write, before).tolist()]
