"""Claims of short explanations (:mod:`tl_nla.explainers.short`), and whether the text and the model bear them out.

``Next: bed, dog. Recent: she … her old`` claims two likely next words and three recent words. The place of ``her`` and
``old`` is known, counted from the end. ``she`` stands before a mark, so that only its being among the last words is
claimed. A mark claims nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tl_nla.explainers.base import Moment
from tl_nla.explainers.short import ShortExplainer
from tl_nla.faithfulness.grammar import Claim, ClaimGrammar, Truth, Verdict

MARK = "…"
TYPES = ("recent", "next")


@dataclass(frozen=True)
class ShortTruth:
    """What is known at a position: the model's likeliest next words, and the last words of the text in order."""

    next_words: tuple[str, ...]
    recent: tuple[str, ...]


class CheckedShortExplainer(ShortExplainer):
    """A :class:`ShortExplainer` that also gives what is true at each moment, so that claims can be checked."""

    def __call__(self, document: str, moments: Sequence[Moment]) -> list[tuple[str, ShortTruth]]:  # type: ignore[override]
        """An explanation and a truth a moment."""
        return [
            (self.said(one), ShortTruth(tuple(self.next_words(one)), tuple(self.recent_words(one.text))))
            for one in moments
        ]


def short_parts(text: str) -> tuple[list[str], list[str]]:
    """Next words and recent words of an explanation; a text of another form has no recent words."""
    first, _, recent = text.partition(". Recent: ")
    return first.removeprefix("Next: ").split(", "), recent.split()


def short_claims(text: str, truth: Truth | None = None) -> list[Claim]:
    """The claims of an explanation; ``subject`` of a recent word is its place from the end, empty where it is unknown.

    Args:
        text: the explanation; one of another form claims nothing.
        truth: not needed; a claim is made whatever is true.
    """
    if not text.startswith("Next: ") or ". Recent: " not in text:
        return []
    next_words, recent = short_parts(text)
    claims, known = [], True
    for place, word in enumerate(reversed(recent), 1):
        known = known and not word.startswith(MARK)
        if not word.startswith(MARK):
            claims.append(Claim("recent", str(place) if known else "", word))
    return claims + [Claim("next", "", word) for word in next_words if not word.startswith(MARK)]


def check_short(claim: Claim, truth: ShortTruth) -> Verdict:
    """Whether a claim is true; places before the beginning of the text are ``untold``.

    Args:
        claim: of :func:`short_claims`.
        truth: of the position.
    """
    if claim.type == "next":
        return "true" if claim.value in truth.next_words else "false"
    if not claim.subject:
        return "true" if claim.value in truth.recent else "false"
    place = int(claim.subject)
    if place > len(truth.recent):
        return "untold"
    return "true" if truth.recent[-place] == claim.value else "false"


def _never(claim: Claim, truth: Truth) -> None:
    return None


SHORT_GRAMMAR = ClaimGrammar(TYPES, short_claims, short_claims, check_short, _never, open_types=TYPES)
