"""Differs: from two explanations to the words that came in and those that went."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from docs.studies.instructed import answers
from tl_nla.oracle.labels import STEPS

_CAP = 32
_WORD = re.compile(r"[\w']+|[^\w\s]")
_FRAME = {"next", "recent", ":", ",", "."}

_ASK = (
    "These are two notes about the same moment, an earlier one and a later one. Say in a few words what is new in the "
    "later note.\nEarlier: {earlier}\nLater: {later}"
)


@dataclass(frozen=True)
class Told:
    """A difference in words.

    Attributes:
        more: words that came in, or are promoted.
        less: words that went, or are suppressed.
        amount: how large the words say that the difference is.
    """

    more: tuple[str, ...]
    less: tuple[str, ...] = ()
    amount: float = 0.0


def words_of(text: str) -> list[str]:
    """The words of an explanation without its frame, each once."""
    return [word for word in dict.fromkeys(_WORD.findall(text)) if word.lower() not in _FRAME]


def text_difference(earlier: str, later: str) -> Told:
    """Words of the later text that the earlier one lacks, and the reverse."""
    one, two = words_of(earlier), words_of(later)
    more, less = (tuple(word for word in side if word not in other) for side, other in ((two, one), (one, two)))
    return Told(more, less, float(len(more) + len(less)))


def whole_text(text: str) -> Told:
    """All words of one text."""
    return Told(tuple(words_of(text)))


def oracle_words(texts: Sequence[str]) -> Told:
    """The words of several writes that follow each other, put together."""
    more: list[str] = []
    less: list[str] = []
    amount = 0.0
    for text in texts:
        for part in text.split("; "):
            if " promotes " in part:
                more += part.split(" promotes ")[1].split()
            elif part.startswith("suppresses "):
                less += part.split()[1:]
            elif part.startswith("strength "):
                amount += STEPS.index(part.split()[1])
    return Told(tuple(more), tuple(less), amount)


def model_differences(model: Any, tokenizer: Any, earlier: Sequence[str], later: Sequence[str]) -> list[str]:
    """What an instruction-tuned model says is new.

    Args:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer, with a chat template.
        earlier: texts.
        later: as many.
    """
    asked = [_ASK.format(earlier=one, later=two) for one, two in zip(earlier, later, strict=True)]
    return answers(model, tokenizer, asked, _CAP)
