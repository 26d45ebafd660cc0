"""The story world's explainer: recent words, guesses, and the facts of the story so far that a state holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tl_nla.data.documents import Document
from tl_nla.data.explained import ExplainedStates, StateCapture
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
        grounding: probes of the states' hook point. Facts that they do not find in a state are left out of its
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


@dataclass(frozen=True)
class WorldCapture:
    """How stories are read: see :class:`tl_nla.data.explained.StateCapture`, and :class:`WorldExplainer`."""

    seed: int = 0
    batch_size: int = 64
    grounding: Grounding | None = None
    prepend_bos: bool | None = None


def explain_states(
    model: Any, tokenizer: Any, documents: Sequence[Document], point: str, positions_per_document: int | None = 5,
    min_position: int = 1, how: WorldCapture | None = None,
) -> ExplainedStates:  # fmt: skip
    """:func:`tl_nla.data.explained.explain_states` with the world's explanations and truths.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokenizer: its tokenizer.
        documents: stories.
        point: name of a residual-stream hook point.
        positions_per_document: how many positions are drawn from each document; ``None`` takes all.
        min_position: first position that may be drawn.
        how: seed, batches, grounding and begin token.
    """
    how = how or WorldCapture()
    capture = StateCapture(how.seed, how.batch_size, WorldExplainer(how.grounding), how.prepend_bos)
    return explain_with(model, tokenizer, documents, point, positions_per_document, min_position, capture)
