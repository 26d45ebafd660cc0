"""What an explainer is given, and what it gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Moment:
    """One position of a document, as an explainer sees it.

    Attributes:
        text: the document's text up to and including the position.
        recent: the last few tokens as text, the explained one last.
        guesses: the model's best next tokens with their probabilities, best first.
        act: the state; of a write, the state that it is added to.
        position: number of the explained token in the text, a begin token not counted.
        site: what is explained, such as ``"blocks.2.hook_resid_post"`` or ``"blocks.3.attn.head.1"``.
        write: the write, in model units; ``None`` where a state is explained.
        label: the mechanical label of a write.
    """

    text: str
    recent: str
    guesses: list[tuple[str, float]]
    act: Float[Tensor, " d_model"]
    position: int = 0
    site: str = ""
    write: Float[Tensor, " d_model"] | None = None
    label: str = ""


Explainer = Callable[[str, Sequence[Moment]], list[tuple[str, Any]]]
"""Writes the explanations of a document's moments.

It is called with the whole text and the positions to explain; what stands after a position must not enter its
explanation. It gives for each the explanation, and what is known to be true there (``None`` where nothing is).
"""


@runtime_checkable
class BatchExplainer(Protocol):
    """An explainer that is faster when it is given the moments of many documents at once."""

    def explain_all(self, moments: Sequence[Moment]) -> list[str]:
        """One explanation a moment, in order."""
        ...


@runtime_checkable
class PlacedExplainer(Protocol):
    """An explainer that has explanations for some positions only."""

    def positions(self, document: Any, tokens: int) -> list[int]:
        """Positions of a document that can be explained.

        Args:
            document: a :class:`tl_nla.data.Document`.
            tokens: how many tokens its text has, a begin token not counted.
        """
        ...


def explain_documents(
    explainer: Explainer, documents: Sequence[tuple[str, Sequence[Moment]]]
) -> list[list[tuple[str, Any]]]:
    """Explanations of the moments of several documents, all at once where the explainer can."""
    if not isinstance(explainer, BatchExplainer):
        return [explainer(text, moments) for text, moments in documents]
    texts = iter(explainer.explain_all([moment for _, moments in documents for moment in moments]))
    return [[(next(texts), None) for _ in moments] for _, moments in documents]
