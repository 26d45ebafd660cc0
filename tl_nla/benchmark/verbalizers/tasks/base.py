"""What a task is."""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Int
from torch import Tensor

from tl_nla.benchmark.verbalizers.words import Say


@dataclass(frozen=True)
class Task:
    """A question with a mechanical answer.

    Attributes:
        name: as the results contract has it.
        asks: one sentence on what is asked.
        score: an arm's words to one score a row, higher being better; the mean over rows is the arm's score.
        document: of each row.
        chance: score of a reader that learns nothing.
        rows: names of the rows that an arm has to speak about.
        headline: off for what no honest verbalizer can win.
    """

    name: str
    asks: str
    score: Callable[[Say], Tensor] = field(repr=False)
    document: Int[Tensor, " n"] = field(repr=False)
    chance: float = 0.0
    rows: tuple[str, ...] = ("test",)
    headline: bool = True
