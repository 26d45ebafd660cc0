"""What the story world gives to the core: see :mod:`tl_nla.plugins`."""

from typing import Any

from tl_nla.storyworld import grammar
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.documents import world_documents
from tl_nla.storyworld.explained import WorldExplainer
from tl_nla.storyworld.tiny import EMBEDDED_SITE, WEIGHTS, embedded_grounding, embedded_vocabulary

__all__ = ["GRAMMAR", "HELD_OUT_SEED", "SOURCE", "WEIGHTS", "documents", "explainer", "planted", "vocabulary"]

SOURCE = "world"
GRAMMAR = grammar.GRAMMAR
documents, vocabulary = world_documents, embedded_vocabulary


def explainer(site: str, grounding: Any = None, embedded: bool = True) -> WorldExplainer:
    """The writer of explanations of one site's states.

    Args:
        site: hook point of the states.
        grounding: probes of that site; where the embedded ones fit, these unless others are given.
        embedded: whether the states are the embedded model's.
    """
    if grounding is None and embedded and site == EMBEDDED_SITE:
        grounding = embedded_grounding()
    return WorldExplainer(grounding)


def planted(count: int, seed: int = 0) -> Any:
    """Facts told early and needed late: see :func:`tl_nla.storyworld.planted.planted`."""
    from tl_nla.storyworld.planted import planted as write

    return write(count, seed)
