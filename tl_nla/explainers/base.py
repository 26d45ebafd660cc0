"""What an explainer is given, and what it gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Moment:
    """One position of a document, as an explainer sees it.

    Attributes:
        text: the document's text up to and including the position.
        recent: the last few tokens as text, the explained one last.
        guesses: the model's best next tokens with their probabilities, best first.
        act: the state.
    """

    text: str
    recent: str
    guesses: list[tuple[str, float]]
    act: Float[Tensor, " d_model"]


Explainer = Callable[[str, Sequence[Moment]], list[tuple[str, Any]]]
"""Writes the explanations of a document's moments.

It is called with the whole text and the positions to explain; what stands after a position must not enter its
explanation. It gives for each the explanation, and what is known to be true there (``None`` where nothing is).
"""
