"""Claims of explanations scored one by one: by type, by how long ago the fact was told, by how sure the words are.

An untold claim (the text so far gives no ground for it) counts as not true. Truth comes from the story parser; for
free text about other models see :mod:`tl_nla.faithfulness.judge`.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.faithfulness.grammar import Claim, Truth, Verdict, check, grammar, made_claims, parse_claims

CERTAINTIES = ("surely", "likely", "perhaps")
DISTANCES = (0, 5, 10, 20, 40, 80)
"""Lower ends of the buckets of the distance since a fact was told, in words."""
_NEXT = re.compile(rf'Next: ({"|".join(CERTAINTIES)}) "(.*?)"', re.DOTALL)


@dataclass(frozen=True)
class ScoredClaim:
    """One claim of one explanation.

    Attributes:
        row: which explanation.
        claim: what it says.
        verdict: ``"true"``, ``"false"`` or ``"untold"``.
        distance: words since the true fact about its subject was told; ``None`` where there is none (untold claims,
            claims about recent and next words).
    """

    row: int
    claim: Claim
    verdict: Verdict
    distance: int | None

    @property
    def true(self) -> bool:
        """Whether the truth bears the claim out."""
        return self.verdict == "true"


def score_claims(
    texts: Sequence[str], truths: Sequence[Truth], positions: Int[Tensor, " n"] | None = None
) -> list[ScoredClaim]:
    """Check every claim of every explanation.

    Args:
        texts: explanations.
        truths: what is known where each was written.
        positions: token position of each, the begin token at 0; every word of the embedded world is one token.
            Without them no distance is given.

    Raises:
        InputError: when the arguments differ in length.
    """
    lengths = {len(texts), len(truths), *([len(positions)] if positions is not None else [])}
    if len(lengths) != 1:
        raise InputError(f"texts, truths and positions differ in length: {sorted(lengths)}")
    scored = []
    for row, (text, truth) in enumerate(zip(texts, truths, strict=True)):
        word = None if positions is None else int(positions[row]) - 1
        for claim in made_claims(text, truth):
            verdict = check(claim, truth)
            scored.append(ScoredClaim(row, claim, verdict, _distance(claim, verdict, truth, word)))
    return scored


def _distance(claim: Claim, verdict: Verdict, truth: Truth, word: int | None) -> int | None:
    if word is None or verdict == "untold":
        return None
    told = grammar().told(claim, truth)
    return None if told is None else max(0, word - told)


def distance_bucket(distance: int, bounds: Sequence[int] = DISTANCES) -> str:
    """Name of the bucket of a distance, such as ``"10-19"`` or ``"80+"``."""
    low = max(bound for bound in bounds if bound <= distance)
    higher = [bound for bound in bounds if bound > low]
    return f"{low}-{higher[0] - 1}" if higher else f"{low}+"


@dataclass(frozen=True)
class Rate:
    """Some of something: ``hits / count``, with the row of each item for clustered intervals."""

    rows: list[int]
    correct: list[bool]

    @property
    def value(self) -> float:
        """The rate; NaN for nothing."""
        return sum(self.correct) / len(self.correct) if self.correct else float("nan")


def precision_by(claims: Sequence[ScoredClaim], key: Callable[[ScoredClaim], Hashable | None]) -> dict[Hashable, Rate]:
    """Share of true claims in each group; claims whose key is ``None`` are in none.

    Args:
        claims: what was said.
        key: the group of a claim, such as ``lambda claim: claim.claim.type``.
    """
    return _rates([(claim, claim.true) for claim in claims], key)


def recall_by(
    texts: Sequence[str], gold: Sequence[ScoredClaim], key: Callable[[ScoredClaim], Hashable | None]
) -> dict[Hashable, Rate]:
    """Share of the gold text's claims that the explanation makes too, in each group.

    Args:
        texts: explanations.
        gold: claims of the gold texts of the same rows, from :func:`score_claims`.
        key: the group of a gold claim.
    """
    said = [set(parse_claims(text)) for text in texts]
    return _rates([(claim, claim.claim in said[claim.row]) for claim in gold], key)


def _rates(
    items: Sequence[tuple[ScoredClaim, bool]], key: Callable[[ScoredClaim], Hashable | None]
) -> dict[Hashable, Rate]:
    groups: dict[Hashable, Rate] = {}
    for claim, correct in items:
        group = key(claim)
        if group is not None:
            rate = groups.setdefault(group, Rate([], []))
            rate.rows.append(claim.row)
            rate.correct.append(correct)
    return groups


def by_type(claim: ScoredClaim) -> str:
    """Key of :func:`precision_by`: the claim's type."""
    return claim.claim.type


def by_distance(claim: ScoredClaim) -> str | None:
    """Key of :func:`precision_by`: how long ago the fact was told."""
    return None if claim.distance is None else distance_bucket(claim.distance)


@dataclass(frozen=True)
class Guess:
    """How sure an explanation is of the next word.

    Attributes:
        row: which explanation.
        certainty: ``"surely"`` (p > .9), ``"likely"`` (p > .5) or ``"perhaps"``.
        word: its first guess.
        right: whether that is the model's best next token.
        deserved: the certainty that the model's probability of its best token calls for; ``None`` if unknown.
    """

    row: int
    certainty: str
    word: str
    right: bool
    deserved: str | None


def read_certainty(text: str) -> tuple[str, str] | None:
    """Certainty and first guess of an explanation; ``None`` when it makes no guess."""
    found = _NEXT.search(text)
    return None if found is None else (found.group(1), found.group(2))


def score_guesses(texts: Sequence[str], gold: Sequence[str], truths: Sequence[Truth]) -> list[Guess]:
    """The first guess of every explanation that makes one, beside what the model itself would guess."""
    guesses = []
    for row, (text, written, truth) in enumerate(zip(texts, gold, truths, strict=True)):
        said, deserved = read_certainty(text), read_certainty(written)
        if said is not None:
            right = bool(truth.guesses) and said[1] == truth.guesses[0]
            guesses.append(Guess(row, said[0], said[1], right, None if deserved is None else deserved[0]))
    return guesses
