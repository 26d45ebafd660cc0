"""What kind of head it is, from its scores: every number has a threshold that was fixed before any model was looked at.

A head may be of several kinds, or of none. What each score means, and what it misses, is told in ``docs/heads.md``.
"""

from collections.abc import Mapping

THRESHOLDS: Mapping[str, float] = {
    "induction": 0.4, "duplicate token": 0.4, "previous token": 0.4, "delimiter": 0.4, "positional": 0.6,
    "copying": 0.9, "sink": 0.6,
}  # fmt: skip
"""From which score on a head is of a kind; the kinds stand in the order in which a card names them."""
DELIMITER_LIFT = 2.0
"""How many times as much as by an even spread a delimiter head attends to delimiters."""
PEAK, BESIDE = 0.4, 0.2
"""A positional head's mean pattern is at least so far from an even spread, and this much goes beside the sink."""
MEANINGS: Mapping[str, str] = {
    "induction": "on repeated random tokens, attention on the token after the earlier occurrence",
    "duplicate token": "on repeated random tokens, attention on the earlier occurrence",
    "previous token": "attention on the token before, in text and on random tokens (the smaller of both)",
    "delimiter": "attention on earlier tokens without letters or digits",
    "positional": "share of the pattern that other texts have at the same positions",
    "copying": "how often the token read most gains more than another token of the text (.5 is chance)",
    "sink": "attention on the first token",
}


def kinds_of(scores: Mapping[str, float | None], shape: Mapping[str, float]) -> tuple[str, ...]:
    """The kinds of a head.

    Args:
        scores: by the names of ``THRESHOLDS``; ``None`` where a score could not be had.
        shape: ``delimiter_chance``, ``peak`` and ``sink`` of its attention.

    Example:
        >>> kinds_of({"sink": 0.8, "copying": None}, {"delimiter_chance": 0.1, "peak": 0.0, "sink": 0.8})
        ('sink',)
    """
    reached = [name for name, least in THRESHOLDS.items() if (scores.get(name) or 0.0) >= least]
    if (scores.get("delimiter") or 0.0) < DELIMITER_LIFT * shape["delimiter_chance"]:
        reached = [name for name in reached if name != "delimiter"]
    # The token before is a fixed position, too; the more exact name is told.
    fixed = shape["peak"] >= PEAK and 1 - shape["sink"] >= BESIDE and "previous token" not in reached
    return tuple(name for name in reached if name != "positional" or fixed)
