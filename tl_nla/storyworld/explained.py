"""The story world's explainer: recent words, guesses, and the facts of the story so far that a state holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tl_nla.data.documents import Document
from tl_nla.data.explained import ExplainedStates
from tl_nla.data.explained import explain_states as explain_with
from tl_nla.explainers import Moment
from tl_nla.storyworld.claims import Truth
from tl_nla.storyworld.explanations import write_explanation
from tl_nla.storyworld.grounding import Grounding
from tl_nla.storyworld.parser import facts_at, parse


@dataclass(frozen=True)
class WorldExplainer:
    """An explainer (:class:`tl_nla.explainers.Explainer`) that knows what is true in a story.

    Attributes:
        grounding: probes of the states' hook point; facts that they do not find in a state are left out of its
            explanation (they stay in its truth). ``None`` says every fact.
    """

    grounding: Grounding | None = None

    def __call__(self, document: str, moments: Sequence[Moment]) -> list[tuple[str, Truth]]:
        """One explanation and its truth a moment; facts come from the story up to it."""
        parsed = parse(document)
        facts = [facts_at(parsed, len(moment.text)) for moment in moments]
        held = [None] * len(facts) if self.grounding is None else self._held(moments, facts)
        return [
            (write_explanation(known, moment.recent, moment.guesses, kinds),
             Truth(known, moment.recent, tuple(word for word, _ in moment.guesses)))
            for moment, known, kinds in zip(moments, facts, held, strict=True)
        ]  # fmt: skip

    def _held(self, moments: Sequence[Moment], facts: list[Any]) -> list[Any]:
        import torch

        if self.grounding is None or not moments:
            return [None] * len(facts)
        return self.grounding.held(torch.stack([moment.act for moment in moments]), facts)


def explain_states(
    model: Any,
    tokenizer: Any,
    documents: Sequence[Document],
    point: str,
    positions_per_document: int | None = 5,
    min_position: int = 1,
    seed: int = 0,
    batch_size: int = 64,
    grounding: Grounding | None = None,
    prepend_bos: bool | None = None,
) -> ExplainedStates:
    """:func:`tl_nla.data.explained.explain_states` with the world's explanations and truths.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokenizer: its tokenizer.
        documents: stories.
        point: name of a residual-stream hook point.
        positions_per_document: how many positions are drawn from each document; ``None`` takes all.
        min_position: first position that may be drawn.
        seed: of the draw.
        batch_size: documents a forward pass.
        grounding: see :class:`WorldExplainer`.
        prepend_bos: see :class:`tl_nla.model.text.TextEncoder`.
    """
    return explain_with(
        model, tokenizer, documents, point, positions_per_document, min_position, seed, batch_size,
        WorldExplainer(grounding), prepend_bos,
    )  # fmt: skip
