"""What is asked and told about writes that a data module serves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.explainers.functions import Named


@dataclass(frozen=True)
class AskedConfig:
    """What is asked and told about each write.

    Attributes:
        top_k: tokens named on each side.
        skips: whether the ``skip`` question is asked.
        questions: how many questions are drawn for each write beside its explanation; 0 where explanations alone are
            trained on.
        sources_share: how often ``sources`` is drawn where it has an answer, for a verbalizer that has to learn its
            source slots; ``None`` draws all questions alike.
        levels: questions with a word of a few as their answer, such as ``"alignment"``; see
            :data:`tl_nla.oracle.questions.LEVELS`.
        swap_share: share of training items shown with the opposite sign.
        heldout_heads: share of the heads that are never trained on (they stay in the held-out writes).
        explainer: what writes the explanations; the labels when ``None``, unless the documents bring some.

    Raises:
        InputError: for a share or a number out of range.
    """

    top_k: int = 4
    skips: bool = True
    questions: int = 1
    sources_share: float | None = None
    levels: tuple[str, ...] = ()
    swap_share: float = 0.2
    heldout_heads: float = 0.0
    explainer: Named | Callable[..., Any] | str | None = None

    def __post_init__(self) -> None:
        check_count("top_k", self.top_k)
        for name in ("heldout_heads", "swap_share"):
            share = getattr(self, name)
            if not 0 <= share < 1:
                raise InputError(f"{name} is {share}; allowed: a share of 0 or above, below 1")
        if self.questions < 0:
            raise InputError(f"questions is {self.questions}; allowed: 0 or more")
        if self.sources_share is not None and not 0 <= self.sources_share <= 1:
            raise InputError(f"sources_share is {self.sources_share}; allowed: a share from 0 to 1, or none")
