"""Mechanical explanations: the recent words of a text, and the model's own best guesses."""

from collections.abc import Sequence

from tl_nla.explainers.base import Moment

SURE, LIKELY = 0.9, 0.5


def certainty(probability: float) -> str:
    """The word for how sure the model is of its best guess: surely (above .9), likely (above .5), perhaps."""
    if probability > SURE:
        return "surely"
    return "likely" if probability > LIKELY else "perhaps"


def recent_and_next(recent: str, guesses: Sequence[tuple[str, float]]) -> list[str]:
    """The sentences that can be written for any text: its recent words, and what the model expects.

    Args:
        recent: the last few tokens as text.
        guesses: the model's best next tokens with their probabilities, best first.
    """
    parts = [f'Recent words: "{recent}".']
    if guesses:
        words = " or ".join(f'"{word}"' for word, _ in guesses)
        parts.append(f"Next: {certainty(guesses[0][1])} {words}.")
    return parts


def explain_mechanically(document: str, moments: Sequence[Moment]) -> list[tuple[str, None]]:
    """An explainer for any text (:class:`tl_nla.explainers.Explainer`); what is true there is not known."""
    return [(" ".join(recent_and_next(moment.recent, moment.guesses)), None) for moment in moments]
