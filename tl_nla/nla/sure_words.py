"""A pair that leaves out the words that its verbalizer was unsure of."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tl_nla.amounts import check_number
from tl_nla.errors import InputError
from tl_nla.nla.around import AroundPair, check_pair
from tl_nla.nla.verbalizer import Generation

_WORD = re.compile(r"\S+")
_ENDS = ".,;:!?"


@dataclass(frozen=True)
class SureToken:
    """A generated token: where it stands in the explanation, and the probability with which it was decoded."""

    start: int
    end: int
    probability: float


@dataclass(frozen=True)
class SureWords(AroundPair):
    """Explanations in which words said with a low probability are shown as a mark.

    ``Recent: she went back to her old`` becomes ``Recent: … her old`` where only the last two words were sure. A word's
    probability is that of all its tokens, as they were decoded. Words that were sure are more often right
    (``docs/studies/smollm2_nla/README.md`` has the figures for SmolLM2), which is no proof that one of them is. Several
    unsure words in a row share one mark. A comma or full stop behind an unsure word stays.

    Attributes:
        pair: any :class:`tl_nla.nla.protocols.Pair` whose ``generate`` gives log-probabilities, such as
            :class:`tl_nla.NLA` or :class:`tl_nla.nla.BestOf`.
        threshold: words below this probability are left out, 0 to 1.
        mark: what stands in their place; not empty, without spaces.

    Raises:
        InputError: for a threshold out of range, a mark with spaces, or a pair that says and reads no words.

    Example:
        >>> nla = SureWords(tl_nla.load_smollm2().nla, threshold=0.5)
        >>> nla.verbalize(states)
    """

    pair: Any
    threshold: float = 0.5
    mark: str = "…"

    def __post_init__(self) -> None:
        check_pair(self.pair)
        if not hasattr(getattr(self.pair, "verbalizer", None), "tokenizer"):
            raise InputError(f"{type(self.pair).__name__} has no verbalizer whose tokens are known; give an NLA")
        if check_number("threshold", self.threshold, 0.0) > 1:
            raise InputError(f"threshold is {self.threshold}; allowed: a probability between 0 and 1")
        if isinstance(self.pair, SureWords):
            raise InputError("this pair leaves out its unsure words already; give its own pair, and one threshold")
        if not isinstance(self.mark, str) or self.mark.split() != [self.mark]:
            raise InputError(f"mark is {self.mark!r}; give one without spaces, such as '…'")

    def generate(self, acts: Float[Tensor, "n d_model"], **settings: Any) -> Generation:
        """Explanations without their unsure words; tokens and log-probabilities are those of the whole explanations.

        Args:
            acts: vectors ``[n, d_model]``.
            settings: of the pair's ``generate``.
        """
        found = self.pair.generate(acts, **settings)
        rows = zip(found.texts, sure_tokens(found, self.pair.verbalizer.tokenizer), strict=True)
        return replace(found, texts=[leave_out(text, tokens, self.threshold, self.mark) for text, tokens in rows])


def sure_tokens(generation: Generation, tokenizer: Any) -> list[list[SureToken]]:
    """The tokens of each explanation with their probabilities.

    Args:
        generation: words with their log-probabilities.
        tokenizer: the verbalizer's.
    """
    rows = []
    for row, text in enumerate(generation.texts):
        ids = generation.ids[row][generation.mask[row]].tolist()
        logprobs = generation.logprobs[row][generation.mask[row]].tolist()
        ends = [len(tokenizer.decode(ids[: place + 1])) for place in range(len(ids))]
        pieces = zip([0, *ends], ends, logprobs, strict=False)
        # A token that ends a character of several tokens adds none, and counts where that character stands.
        tokens = [SureToken(max(0, min(start, end - 1)), end, math.exp(logprob)) for start, end, logprob in pieces]
        whole = tokenizer.decode(ids)
        places = _places(text, whole, generation.answers.begins(whole))
        rows.append([token for place in places for token in _moved(tokens, *place)])
    return rows


def _places(text: str, whole: str, begins: int) -> list[tuple[int, int, int]]:
    """Where a response holds an explanation, as one piece or line by line: place there, place in the text, length."""
    at = whole.find(text, begins)
    if at >= 0:
        return [(at, 0, len(text))]
    found, place = [], 0
    for line in text.splitlines(keepends=True):
        at = whole.find(line.strip(), begins)
        if at < 0:  # the words of a failed row are its whole response
            return [(max(0, whole.find(text)), 0, len(text))]
        begins = at + len(line.strip())
        found.append((at, place, len(line)))
        place += len(line)
    return found


def _moved(tokens: Sequence[SureToken], stands: int, place: int, length: int) -> list[SureToken]:
    """Tokens of a piece of the response, at that piece's place in the explanation."""
    over = (token for token in tokens if token.end > stands and token.start < stands + length)
    return [replace(token, start=max(token.start - stands, 0) + place, end=min(token.end - stands, length) + place)
            for token in over]  # fmt: skip


def leave_out(text: str, tokens: Sequence[SureToken], threshold: float, mark: str = "…") -> str:
    """A text with a mark in the place of its unsure words.

    Args:
        text: the explanation.
        tokens: its tokens, of :func:`sure_tokens`.
        threshold: words below this probability are left out.
        mark: what stands in their place.
    """
    parts, place, open_mark = [], 0, False
    for found in _WORD.finditer(text):
        # Where the word itself is punctuation, what ends its part of the explanation is the last mark: `Next: ..`
        core = found.group().rstrip(_ENDS) or found.group()[:-1] or found.group()
        start, end = found.start(), found.start() + len(core)
        inside = (token.probability for token in tokens if token.end > start and token.start < end)
        if math.prod(inside) >= threshold:
            open_mark = False
            continue
        parts += [] if open_mark else [text[place:start], mark]
        place, open_mark = end, end == found.end()
    return "".join([*parts, text[place:]])
