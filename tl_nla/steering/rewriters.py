"""Rewriters: functions from an explanation to the explanation that a state shall have instead."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tl_nla.errors import InputError

Rewriter = Callable[[str], str]
_NEXT = re.compile(r'Next: (?:surely|likely|perhaps) (?:".*?"(?: or )?)+\.', re.DOTALL)


def check_rewriters(rewrite: Any) -> None:
    """Refuse what is neither a rewriter nor a sequence of them.

    Raises:
        InputError: saying what was given.
    """
    several = isinstance(rewrite, Sequence) and not isinstance(rewrite, str)
    if not callable(rewrite) and not (several and all(map(callable, rewrite))):
        raise InputError(
            f"rewrite is {type(rewrite).__name__} ({rewrite!r:.60}); give a function from text to text, such as "
            "substitute({'red': 'yellow'}), or a list of them, one a row"
        )


def substitute(words: Mapping[str, str]) -> Rewriter:
    """Replace whole words, all at once, so that ``{"a": "b", "b": "a"}`` exchanges them.

    Args:
        words: what is replaced, and by what.

    Raises:
        InputError: when there is nothing to replace, or no mapping was given.
    """
    if not isinstance(words, Mapping):
        raise InputError(f"the words to replace are {type(words).__name__} ({words!r:.60}); give {{'red': 'yellow'}}")
    if not words or not all(words):
        raise InputError("nothing to replace was given; name at least one word, such as {'red': 'yellow'}")
    longest = sorted(words, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in longest))
    return lambda text: pattern.sub(lambda match: words[match.group(0)], text)


def swap(first: str, second: str) -> Rewriter:
    """Exchange two words."""
    return substitute({first: second, second: first})


def append(sentence: str) -> Rewriter:
    """Add a sentence at the end. Known to do little alone (field notes): reported as a baseline."""
    return lambda text: f"{text} {sentence}".strip()


def expect(word: str, certainty: str = "surely") -> Rewriter:
    """Displace the expected next word of an explanation in the embedded world's form; adds one where none stands.

    Args:
        word: the word to expect.
        certainty: ``surely``, ``likely`` or ``perhaps``.
    """
    said = f'Next: {certainty} " {word.strip()}".'
    return lambda text: _NEXT.sub(lambda _: said, text, count=1) if _NEXT.search(text) else f"{text} {said}".strip()


def without_quotes(text: str) -> str:
    """Take out whatever stands in double quotes: words that might smuggle in the next token."""
    return re.sub(r'"[^"]*"', '""', text)


def outside_quotes(rewrite: Rewriter) -> Rewriter:
    """Let a rewriter change only what stands outside of double quotes: facts, not quoted or expected words."""

    def change(text: str) -> str:
        parts = re.split(r'("[^"]*")', text)
        return "".join(part if place % 2 else rewrite(part) for place, part in enumerate(parts))

    return change


def compose(*rewriters: Rewriter) -> Rewriter:
    """One rewriter after the other."""

    def rewrite(text: str) -> str:
        for rewriter in rewriters:
            text = rewriter(text)
        return text

    return rewrite


def from_pipeline(pipeline: Any, instruction: str) -> Rewriter:
    """Let a transformers text-generation pipeline rewrite; it sees the instruction and the explanation only.

    Args:
        pipeline: ``transformers.pipeline("text-generation", ...)`` or anything that answers in its form.
        instruction: with ``{explanation}``.

    Raises:
        InputError: when the instruction has no place for the explanation.
    """
    if "{explanation}" not in instruction:
        raise InputError(f"instruction {instruction!r} has no {{explanation}}; say where the explanation goes")

    def rewrite(text: str) -> str:
        answer = pipeline(instruction.replace("{explanation}", text), return_full_text=False)
        return str(answer[0]["generated_text"]).strip()

    return rewrite


def parse_rewrite(text: str) -> Rewriter:
    """Read ``"red->yellow"``, several separated by commas.

    Raises:
        InputError: when an arrow or a word is missing.
    """
    words = {}
    for part in text.split(","):
        before, arrow, after = (piece.strip() for piece in part.partition("->"))
        if not arrow or not before:
            raise InputError(f"rewrite {part.strip()!r} is not of the form 'red->yellow'")
        words[before] = after
    return substitute(words)


def dry_run(rewrite: Rewriter, texts: Sequence[str]) -> list[tuple[str, str]]:
    """What a rewriter would make of explanations, without touching a model: pairs (before, after)."""
    return [(text, rewrite(text)) for text in texts]
