"""Sentence templates: the only sentences of the world, and what each of them says or asks.

A template is a tuple of words; a word in braces is a slot (see :data:`lexicon.SLOTS`). Its ``fact`` names
what becomes true when the sentence has been read (``tell``), what must be true already (``recall``), or
nothing (``filler``). The answer of a recall or a question is always its last slot.

What a fact is about always stands before its value ("a kite painted red", not "a red kite"). A target of this size
learns to complete facts told that way. Facts told the other way round stayed at 55% (colour) and 60% (holder) after 800
steps in which the others reached 96 to 100%.
"""

import re
from dataclasses import dataclass
from typing import Literal

from tl_nla.storyworld.lexicon import SLOTS

Kind = Literal["tell", "recall", "question", "filler"]
_WORD = re.compile(r"\{\w+\}|\w+|[^\w\s]")


@dataclass(frozen=True)
class Template:
    """One sentence pattern.

    Attributes:
        name: unique name, such as ``"opening_one"``.
        kind: what the sentence does.
        facts: the facts it tells or recalls, such as ``"at A place"``; see :mod:`tl_nla.storyworld.facts`.
        words: its words, slots in braces, punctuation marks as words of their own.
        claim: for recalls and questions the type of the answer (``where``, ``what``, ``colour``, ``feeling``,
            ``who``, ``inside``).
    """

    name: str
    kind: Kind
    facts: tuple[str, ...]
    words: tuple[str, ...]
    claim: str | None = None

    def slots(self) -> tuple[str, ...]:
        """Names of its slots in order of appearance."""
        return tuple(word[1:-1] for word in self.words if word.startswith("{"))

    def fill(self, values: dict[str, str]) -> list[str]:
        """The words of the sentence with the slots filled from ``values``."""
        return [values[word[1:-1]] if word.startswith("{") else word for word in self.words]

    def admits(self, index: int, word: str) -> bool:
        """Whether ``word`` may stand at place ``index``."""
        expected = self.words[index]
        return word in SLOTS[expected[1:-1]] if expected.startswith("{") else word == expected


def _template(name: str, kind: Kind, text: str, *facts: str, claim: str | None = None) -> Template:
    return Template(name, kind, facts, tuple(_WORD.findall(text)), claim)


TELL = (
    _template("opening_one", "tell", "One {weather} {time} {A} went to the {place}.", "at A place"),
    _template("opening_was", "tell", "It was a {weather} {time} and {A} was at the {place}.", "at A place"),
    _template("opening_came", "tell", "{A} came to the {place} on a {weather} {time}.", "at A place"),
    _template("join", "tell", "{A} was at the {place} too.", "at A place"),
    _template("visit", "tell", "{A} came to the {place} too.", "at A place"),
    _template("had", "tell", "{A} had a {object} painted {colour}.", "colour object colour", "holds object A"),
    _template("found", "tell", "{A} found a {object} painted {colour}.", "colour object colour", "holds object A"),
    _template("carried", "tell", "{A} carried a {object} painted {colour}.", "colour object colour", "holds object A"),
    _template("felt", "tell", "{A} felt {feeling}.", "feels A feeling"),
    _template("very", "tell", "{A} was very {feeling}.", "feels A feeling"),
    _template("gave", "tell", "{A} gave the {object} to {B}.", "holds object B"),
    _template("lost", "tell", "{B} lost the {object} to {A}.", "holds object A"),
    _template("put", "tell", "{A} put the {object} in the {container}.", "inside object container"),
    _template("walked", "tell", "{A} walked to the {place}.", "at A place"),
    _template("now", "tell", "Now {A} felt {feeling}.", "feels A feeling"),
    _template("painted", "tell", "{A} painted the {object} {colour}.", "colour object colour"),
)
RECALL = (
    _template("still_at", "recall", "{A} was still at the {place}.", "at A place", claim="where"),
    _template("looked_around", "recall", "{A} looked around the {place}.", "at A place", claim="where"),
    _template("still_had", "recall", "{A} still had the {object}.", "holds object A", claim="what"),
    _template("held_up", "recall", "{A} held up the {object}.", "holds object A", claim="what"),
    _template("object_was", "recall", "The {object} was {colour}.", "colour object colour", claim="colour"),
    _template("saw_that", "recall", "{B} saw that the {object} was {colour}.", "colour object colour", claim="colour"),
    _template("still_felt", "recall", "{A} still felt {feeling}.", "feels A feeling", claim="feeling"),
    _template("looked", "recall", "{A} looked {feeling}.", "feels A feeling", claim="feeling"),
    _template("belonged", "recall", "The {object} belonged to {A}.", "holds object A", claim="who"),
    _template("was_with", "recall", "The {object} was with {A}.", "holds object A", claim="who"),
    _template(
        "stayed_in", "recall", "The {object} stayed in the {container}.", "inside object container", claim="inside"
    ),
)
QUESTION = (
    _template("ask_where", "question", "Where is {A}? At the {place}.", "at A place", claim="where"),
    _template("ask_what", "question", "What does {A} have? The {object}.", "holds object A", claim="what"),
    _template(
        "ask_colour",
        "question",
        "Which colour is the {object}? It is {colour}.",
        "colour object colour",
        claim="colour",
    ),
    _template("ask_feeling", "question", "How does {A} feel? Very {feeling}.", "feels A feeling", claim="feeling"),
    _template("ask_who", "question", "Who has the {object}? It is {A}.", "holds object A", claim="who"),
    _template(
        "ask_inside",
        "question",
        "Where is the {object}? In the {container}.",
        "inside object container",
        claim="inside",
    ),
)
FILLER = (
    _template("ran_by", "filler", "A {animal} ran by."),
    _template("slept", "filler", "A {animal} slept under a tree."),
    _template("sang", "filler", "They sang a song together."),
    _template("ate", "filler", "Everyone ate some {food}."),
    _template("bells", "filler", "The bells rang far away."),
    _template("waited", "filler", "They waited for a while."),
    _template("clouds", "filler", "The {weather} sky was full of clouds."),
)
TEMPLATES = TELL + RECALL + QUESTION + FILLER
BY_NAME = {template.name: template for template in TEMPLATES}
