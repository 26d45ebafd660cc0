"""Judges of claims in free text: any callable, with two mechanical ones and the agreement of two judges.

A judge answers whether a text bears a claim out: ``True``, ``False``, or ``None`` when it cannot say. A language model
behind a function is a judge. How far to believe it is measured by :func:`agreement` with a mechanical one where that
one can judge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torchmetrics.functional.classification import binary_cohen_kappa

from tl_nla.errors import InputError
from tl_nla.faithfulness.clauses import quoted_spans, split_clauses

ClaimJudge = Callable[[str, str], bool | None]
"""``judge(claim, text) -> verdict``: whether the text up to the explained position bears the claim out."""


def judge_quotes(claim: str, text: str) -> bool | None:
    """Whether everything that the claim quotes stands in the text word for word; ``None`` when it quotes nothing."""
    quotes = [claim[start:end].strip() for start, end in quoted_spans(claim)]
    quotes = [quote for quote in quotes if quote]
    return all(quote in text for quote in quotes) if quotes else None


@dataclass(frozen=True)
class JudgedClaim:
    """One clause of one explanation with its verdict."""

    row: int
    clause: str
    verdict: bool | None


def judge_explanations(explanations: Sequence[str], texts: Sequence[str], judge: ClaimJudge) -> list[JudgedClaim]:
    """Every clause of every explanation, judged.

    Args:
        explanations: any texts; each sentence or line is one claim.
        texts: what had been read where each was written, and nothing after it.
        judge: the judge.

    Raises:
        InputError: when there is not one text an explanation.
    """
    if len(explanations) != len(texts):
        raise InputError(f"{len(explanations)} explanations for {len(texts)} texts: give one text an explanation")
    return [
        JudgedClaim(row, clause.text, judge(clause.text, text))
        for row, (explanation, text) in enumerate(zip(explanations, texts, strict=True))
        for clause in split_clauses(explanation)
    ]


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree where both decided.

    Attributes:
        n: claims that both decided.
        rate: share of equal verdicts.
        kappa: Cohen's kappa (1960), agreement beyond chance; NaN when chance alone would agree always.
        undecided: claims that only one of them decided.
    """

    n: int
    rate: float
    kappa: float
    undecided: int


def agreement(first: Sequence[bool | None], second: Sequence[bool | None]) -> Agreement:
    """Compare two judges' verdicts on the same claims.

    Raises:
        InputError: when they judged different numbers of claims.
    """
    if len(first) != len(second):
        raise InputError(f"the judges gave {len(first)} and {len(second)} verdicts: let both judge the same claims")
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    undecided = sum((a is None) != (b is None) for a, b in zip(first, second, strict=True))
    if not both:
        return Agreement(0, float("nan"), float("nan"), undecided)
    rate = sum(a == b for a, b in both) / len(both)
    one, other = (torch.tensor(verdicts).int() for verdicts in zip(*both, strict=True))
    kappa = binary_cohen_kappa(one, other)
    return Agreement(len(both), rate, float(kappa), undecided)
