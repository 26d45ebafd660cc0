"""Short explanations for real vocabularies: likely next words, then the last words of the text."""

from collections.abc import Sequence

from tl_nla.amounts import check_count
from tl_nla.explainers.base import Moment
from tl_nla.model.control import without_control

BREAK = "|"
"""How a line break is written."""
_NOTHING = "unclear"
_LONGEST = 20


class ShortExplainer:
    """Says what comes next and what was read last, in so few words that every one of them counts.

    ``Next: house, home. Recent: she went back to her old``. The words that were read last stand last: a
    reconstructor that is made of the target itself then reads them as the target did.

    Args:
        words: how many of the last words are said. A word is what stands between spaces; what a text ends in may be
            the first piece of one. Line breaks count as words, written ``|``.
        guesses: how many likely next words are said at most.

    Raises:
        InputError: for a number below 1.

    Example:
        >>> explainer = ShortExplainer(words=7)
    """

    def __init__(self, words: int = 7, guesses: int = 2) -> None:
        self.words, self.guesses = check_count("words", words), check_count("guesses", guesses)

    def __call__(self, document: str, moments: Sequence[Moment]) -> list[tuple[str, None]]:
        """An explanation a moment; what is true there is not known."""
        return [(self.said(moment), None) for moment in moments]

    def said(self, moment: Moment) -> str:
        """The explanation of one moment."""
        return f"Next: {', '.join(self.next_words(moment))}. Recent: {' '.join(self.recent_words(moment.text))}"

    def next_words(self, moment: Moment) -> list[str]:
        """The likely next words, each once, the likeliest first; ``unclear`` where none is a word."""
        found = [guess.replace("\n", BREAK).strip() for guess, _ in moment.guesses]
        return list(dict.fromkeys(word for word in found if word))[: self.guesses] or [_NOTHING]

    def recent_words(self, text: str) -> list[str]:
        """The last words of a text, the last one last; a word is cut to its last 20 characters."""
        # What a control token's name leaves behind says nothing of the text.
        end = without_control(text)[-(_LONGEST + 1) * 4 * self.words :]
        words = end.replace("\n", f" {BREAK} ").split()
        return [word[-_LONGEST:] for word in words[-self.words :]] or [_NOTHING]
