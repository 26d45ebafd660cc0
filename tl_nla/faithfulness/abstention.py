"""Abstention: clauses that the verbalizer itself was unsure of are left out.

Needs no training: the log-probabilities come with the words. What it costs in FVE and gains in claim precision is
measured, not promised (``tl-nla evaluate faithfulness``).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tl_nla.errors import InputError
from tl_nla.faithfulness.clauses import join_clauses, split_clauses
from tl_nla.nla import Generation


@dataclass(frozen=True)
class SureClause:
    """A clause with the verbalizer's confidence.

    Attributes:
        text: the clause.
        kind: its claim type.
        confidence: the smallest probability among its tokens as they were decoded; 1 without tokens.
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
    for row, text in enumerate(generation.texts):
        ids = generation.ids[row][generation.mask[row]].tolist()
        logprobs = generation.logprobs[row][generation.mask[row]].tolist()
        ends = [len(tokenizer.decode(ids[: place + 1])) for place in range(len(ids))]
        offset = max(0, tokenizer.decode(ids).find(text))
        clauses = []
        for clause in split_clauses(text):
            first, last = clause.start + offset, clause.end + offset
            tokens = zip(logprobs, [0, *ends], ends, strict=False)
            inside = [logprob for logprob, start, end in tokens if end > first and start < last]
            clauses.append(SureClause(clause.text, clause.kind, math.exp(min(inside, default=0.0))))
        rows.append(clauses)
    return rows


def abstain(
    clauses: Sequence[Sequence[SureClause]], threshold: float, keep: Collection[str] = ("recent", "next")
) -> list[str]:
    """Explanations without their unsure clauses.

    Args:
        clauses: from :func:`clause_confidences`.
        threshold: clauses below this confidence are left out, in [0, 1].
        keep: claim types that are never left out.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; allowed: a probability between 0 and 1")
    return [join_clauses([c.text for c in own if c.confidence >= threshold or c.kind in keep]) for own in clauses]
