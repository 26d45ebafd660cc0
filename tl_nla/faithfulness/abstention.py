"""Abstention: what the verbalizer itself was unsure of is left out or asked for instead.

Needs no training of the verbalizer: the log-probabilities come with the words. A verbalizer's probabilities can be
right where its greedy words are not, since greedy decoding names the best of many poor guesses as if it were known.
What abstaining costs in FVE and gains in claim precision is measured (``docs/studies/faithfulness/README.md``).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tl_nla.errors import InputError
from tl_nla.faithfulness.clauses import join_clauses, split_clauses
from tl_nla.faithfulness.grammar import grammar
from tl_nla.nla import Generation
from tl_nla.nla.sure_words import SureToken, sure_tokens

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class SureClause:
    """A clause with the verbalizer's confidence.

    Attributes:
        text: the clause.
        kind: its claim type.
        confidence: the smallest probability among its tokens; 1 without tokens.
    """

    text: str
    kind: str
    confidence: float


def clause_confidences(generation: Generation, tokenizer: Any) -> list[list[SureClause]]:
    """How sure the verbalizer was of each clause of each explanation.

    Args:
        generation: greedy words with their log-probabilities.
        tokenizer: the verbalizer's.
    """
    rows = []
    for text, tokens in zip(generation.texts, sure_tokens(generation, tokenizer), strict=True):
        clauses = split_clauses(text)
        rows.append([SureClause(c.text, c.kind, _least(tokens, c.start, c.end)) for c in clauses])
    return rows


def _least(tokens: Sequence[SureToken], start: int, end: int) -> float:
    return min((token.probability for token in tokens if token.end > start and token.start < end), default=1.0)


def abstain(
    clauses: Sequence[Sequence[SureClause]], threshold: float, keep: Collection[str] = ("recent", "next")
) -> list[str]:
    """Explanations without their unsure clauses.

    Args:
        clauses: from :func:`clause_confidences`.
        threshold: clauses below this confidence are left out, in [0, 1].
        keep: claim types that are never left out.
    """
    _check(threshold)
    return [join_clauses([c.text for c in own if c.confidence >= threshold or c.kind in keep]) for own in clauses]


def withhold(
    generation: Generation, tokenizer: Any, threshold: float, questions: Mapping[str, str] | None = None
) -> list[str]:
    """Explanations in which every naming word that the verbalizer was unsure of became a question word.

    ``Tom is at the farm.`` with an unsure ``farm`` becomes ``Tom is at the Where.``: that Tom is at some place is still
    said, which place no longer. A word is unsure wherever it stands once its first mention was: repeating a guess makes
    the verbalizer certain of it, not right. Question words are no claims (see ``faithfulness.claims``).

    Args:
        generation: greedy words with their log-probabilities.
        tokenizer: the verbalizer's.
        threshold: words below this probability are withheld, in [0, 1].
        questions: naming words with the word that stands for their kind; those of the grammar in use when ``None``.
    """
    _check(threshold)
    questions = grammar().questions if questions is None else questions
    texts = []
    for text, tokens in zip(generation.texts, sure_tokens(generation, tokenizer), strict=True):
        parts, place = [], 0
        first: dict[str, float] = {}
        for found in _WORD.finditer(text):
            word = found.group()
            sure = min(_least(tokens, found.start(), found.end()), first.get(word, 1.0))
            first.setdefault(word, sure)
            if word in questions and sure < threshold:
                parts += [text[place : found.start()], questions[word]]
                place = found.end()
        texts.append("".join([*parts, text[place:]]))
    return texts


def _check(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; allowed: a probability between 0 and 1")
