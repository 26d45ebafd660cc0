"""The sentence that a text is in: an explanation that needs neither a model nor labels."""

import re
from collections.abc import Sequence

from tl_nla.explainers.base import Moment
from tl_nla.model.control import without_control

LONGEST = 200
"""Characters of a sentence that are told, from its end: a text without a full stop is one sentence."""
_END = re.compile(r"""[.!?…]+["'”’)\]]*\s+|[。！？]+[”’」』）]*\s*|\n\s*\n""")
"""Where a sentence ends: behind a stop and a space, behind a full-width stop, or at an empty line."""


def last_sentence(text: str, longest: int = LONGEST) -> str:
    """The last sentence of a text, whole or as far as it got; blank for a blank text.

    Sentences are known by their stops alone, so that "Dr. Watson" begins a new one.

    Args:
        text: up to the position that is explained.
        longest: characters that are kept, from the end; a word that is cut through is left out.
    """
    text = text.strip()
    starts = [found.end() for found in _END.finditer(text) if found.end() < len(text)]
    sentence = text[starts[-1] if starts else 0 :]
    if len(sentence) > longest:
        cut = sentence[-longest:]
        words = cut if sentence[-longest - 1].isspace() else cut.partition(" ")[2]
        sentence = (words or cut).strip()
    return " ".join(sentence.split())


def explain_by_sentence(document: str, moments: Sequence[Moment]) -> list[tuple[str, None]]:
    """An explainer for any text (:data:`tl_nla.explainers.Explainer`); what is true there is not known."""
    return [(_explained(moment), None) for moment in moments]


def _explained(moment: Moment) -> str:
    sentence = last_sentence(without_control(moment.text))
    return f'Sentence so far: "{sentence}".' if sentence else "No sentence so far."
