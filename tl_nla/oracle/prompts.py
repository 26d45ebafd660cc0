"""The prompts of a verbalizer: what each question is put in, and the marker that all of them can hold."""

from typing import Any

import torch

from tl_nla.errors import InputError
from tl_nla.nla.marker import Marker, choose_marker
from tl_nla.nla.prompts import build_verbalizer_prompt, has_tags
from tl_nla.oracle.encoder import MOST_SLOTS
from tl_nla.oracle.labels import Vocabulary
from tl_nla.oracle.questions import EXPLAIN, QUESTIONS, SHORT_WORDINGS, WORDINGS
from tl_nla.oracle.slots import SLOTS

TEMPLATE = (
    "You study a language model. Between the concept tags stand two vectors: the state of its residual stream, and "
    "what one of its parts writes to it.\n<concept>{injection_char}</concept>\n{question}"
)
TINY_TEMPLATE = "<concept>{injection_char}</concept>{question}"
_SLOTS = (len(SLOTS), len(SLOTS) + MOST_SLOTS)
"""Markers in a row without an encoder, and with the largest."""


def oracle_template(tokenizer: Any) -> str:
    """The short template for a tokenizer with the embedded default's tags, the worded one for all others."""
    return TINY_TEMPLATE if has_tags(tokenizer) else TEMPLATE


def worded(template: str, question: str) -> str:
    """A template with the question put in, ``{injection_char}`` left to be filled.

    Raises:
        InputError: when the template has no place for the question, or several.
    """
    if template.count("{question}") != 1:
        raise InputError("the verbalizer's template must hold {question} exactly once, behind {injection_char}")
    wordings = SHORT_WORDINGS if template == TINY_TEMPLATE else WORDINGS
    return template.replace("{question}", wordings[question])


def oracle_marker(tokenizer: Any, template: str | None = None, char: str | None = None) -> Marker:
    """A marker that every question's prompt can hold, also with the slots of an encoder.

    Args:
        tokenizer: left as it is.
        template: of the verbalizer; :func:`oracle_template` when ``None``.
        char: use this one, or refuse it.

    Raises:
        InputError: as :func:`tl_nla.nla.marker.choose_marker`; also for a character that labels may name.
    """
    if char is not None:
        known = Vocabulary.of(tokenizer, len(tokenizer))
        if any(char in known.texts[number] for number in torch.nonzero(known.allowed).flatten().tolist()):
            raise InputError(
                f"labels may name the injection character {char!r}, as it is a token of the vocabulary. Give one of "
                "U+3200 to U+33FF, or leave out injection_char, and one is chosen or added"
            )
    return choose_marker(tokenizer, _all_worded(template or oracle_template(tokenizer)), _SLOTS, char)


def longest_prompt(marker: Marker, template: str | None = None) -> int:
    """Tokens of the longest prompt of a verbalizer, with the slots of an encoder."""
    tokenizer = marker.tokenizer
    texts = _all_worded(template or oracle_template(tokenizer))
    return max(len(build_verbalizer_prompt(tokenizer, text, marker.char, max(_SLOTS)).ids) for text in texts)


def _all_worded(template: str) -> list[str]:
    return [worded(template, question) for question in (EXPLAIN, *QUESTIONS)]
