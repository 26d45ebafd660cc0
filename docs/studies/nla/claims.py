"""Claims of explanations, counted by type."""

from collections.abc import Sequence
from dataclasses import dataclass

from tl_nla.faithfulness.grammar import Claim
from tl_nla.storyworld.claims import CLAIM_TYPES, Truth, check, made_claims, parse_claims


@dataclass(frozen=True)
class ClaimCounts:
    """Counts of one claim type: said, said and true, expected by the gold text, expected and said."""

    said: int = 0
    true: int = 0
    expected: int = 0
    found: int = 0


def count_claims(explanation: str, gold: str, truth: Truth) -> dict[str, ClaimCounts]:
    """Count claims by type for precision (``true / said``) and recall (``found / expected``).

    Args:
        explanation: the text to judge.
        gold: the explanation written from the truth.
        truth: what is known at the position.

    Returns:
        One entry a claim type.
    """
    said, expected = made_claims(explanation, truth), parse_claims(gold)
    counts = {}
    for kind in CLAIM_TYPES:
        mine, wanted = _of(said, kind), _of(expected, kind)
        true = sum(check(claim, truth) == "true" for claim in mine)
        counts[kind] = ClaimCounts(len(mine), true, len(wanted), len(set(mine) & set(wanted)))
    return counts


def _of(claims: Sequence[Claim], kind: str) -> list[Claim]:
    return [claim for claim in claims if claim.type == kind]
