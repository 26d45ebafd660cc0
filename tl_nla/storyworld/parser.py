"""Reads story text word by word and keeps what it makes true: the world's truth for any text.

The same parser serves the generator's stories, a user's sentences and a steered model's continuation. It
never looks ahead: the facts after word ``i`` depend on words ``0..i`` only.
"""

import functools
from dataclasses import dataclass
from typing import Literal

from tl_nla.data.words import split_words
from tl_nla.storyworld.facts import Facts
from tl_nla.storyworld.lexicon import NAMES, OBJECTS
from tl_nla.storyworld.templates import TEMPLATES, Template

_ENDS = (".", "?", "!")
_NAMES, _OBJECTS = frozenset(NAMES), frozenset(OBJECTS)


@dataclass(frozen=True)
class Sentence:
    """One sentence as parsed.

    Attributes:
        start: index of its first word.
        end: one past its last word.
        template: the pattern it follows, or ``None`` when it follows none.
        values: the slots' words.
        verdict: ``"valid"``, ``"ungrammatical"`` (no pattern), ``"false"`` (recalls or asks with an answer that
            contradicts the facts) or ``"unfounded"`` (recalls something never told).
    """

    start: int
    end: int
    template: Template | None
    values: dict[str, str]
    verdict: Literal["valid", "ungrammatical", "false", "unfounded"]


@dataclass(frozen=True)
class Parse:
    """A parsed text: its words with character spans, the facts after each word, and its finished sentences."""

    words: list[str]
    spans: list[tuple[int, int]]
    facts: list[Facts]
    sentences: list[Sentence]


def parse(text: str) -> Parse:
    """Parse any text; sentences outside the world's patterns change nothing.

    Args:
        text: story text; any Unicode.

    Returns:
        The facts after every word (each list has one entry a word) and the finished sentences.
    """
    found = split_words(text)
    words = [word for word, _, _ in found]
    facts, history, sentences = Facts(), [], []
    start, candidates = 0, list[Template]()
    before = facts.copy()
    for index, word in enumerate(words):
        candidates = _still_possible(candidates, index - start, word)
        _focus(facts, word)
        if candidates:
            _tell_finished(candidates[0], words[start : index + 1], facts, start)
        history.append(facts.copy())
        finished = next((c for c in candidates if len(c.words) == index - start + 1), None)
        if finished is not None or (word in _ENDS and not candidates):
            sentences.append(_judge(finished, words[start : index + 1], start, before))
            start, candidates, before = index + 1, [], facts.copy()
    return Parse(words, [(left, right) for _, left, right in found], history, sentences)


def facts_at(parsed: Parse, end: int) -> Facts:
    """The facts after the first ``end`` characters of the parsed text; an unfinished word tells nothing."""
    known = Facts()
    for (_, right), facts in zip(parsed.spans, parsed.facts, strict=True):
        if right > end:
            break
        known = facts
    return known


def _still_possible(candidates: list[Template], place: int, word: str) -> list[Template]:
    if place == 0:
        return list(_beginning_with(word))
    return [c for c in candidates if place < len(c.words) and c.admits(place, word)]


@functools.lru_cache(4096)
def _beginning_with(word: str) -> tuple[Template, ...]:
    return tuple(template for template in TEMPLATES if template.admits(0, word))


def _focus(facts: Facts, word: str) -> None:
    if word in _NAMES:
        facts.person = word
    elif word in _OBJECTS:
        facts.object = word


def _values(template: Template, words: list[str]) -> dict[str, str]:
    pairs = zip(template.words, words, strict=False)
    return {pattern[1:-1]: word for pattern, word in pairs if pattern.startswith("{")}


def _tell_finished(template: Template, words: list[str], facts: Facts, start: int) -> None:
    """Apply the facts whose last slot is the word just read."""
    if template.kind != "tell" or not template.words[len(words) - 1].startswith("{"):
        return
    values = _values(template, words)
    slot = template.words[len(words) - 1][1:-1]
    for fact in template.facts:
        _, key, value = fact.split()
        if slot in (key, value) and key in values and value in values:
            facts.tell(fact, values, start + len(words) - 1)


def _judge(template: Template | None, words: list[str], start: int, before: Facts) -> Sentence:
    if template is None:
        return Sentence(start, start + len(words), None, {}, "ungrammatical")
    values = _values(template, words)
    verdict: Literal["valid", "false", "unfounded"] = "valid"
    if template.kind in ("recall", "question"):
        known = [before.value(fact, values) for fact in template.facts]
        expected = [values[fact.split()[2]] for fact in template.facts]
        if any(value is None for value in known):
            verdict = "unfounded"
        elif known != expected:
            verdict = "false"
    return Sentence(start, start + len(words), template, values, verdict)
