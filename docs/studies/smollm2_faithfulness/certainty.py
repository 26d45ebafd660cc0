"""How sure the verbalizer was of each word that it said, and whether the word is true."""

import math
import re
from dataclasses import dataclass
from typing import Any

from docs.studies.smollm2_nla.score import WORDS
from tl_nla.faithfulness.short_claims import short_parts
from tl_nla.nla.sure_words import sure_tokens

TYPES = ("next", "last 1", "last 2", "earlier")


@dataclass(frozen=True)
class Word:
    """One claim.

    Attributes:
        kind: one of ``TYPES``; ``earlier`` are the third to the seventh word from the end.
        word: what is claimed.
        chance: probability of its tokens when it was said.
        right: whether it is true.
        place: counted from the end of the recent words; 0 for the next word.
    """

    kind: str
    word: str
    chance: float
    right: bool
    place: int


def spoken_words(nla: Any, found: Any, row: int) -> list[tuple[str, float]]:
    """Words of one generated explanation with the probability of their tokens, in order.

    Args:
        nla: the pair.
        found: what its verbalizer generated.
        row: of the explanations.
    """
    tokens = sure_tokens(found, nla.verbalizer.tokenizer)[row]
    return [
        (word.group(), math.prod(t.probability for t in tokens if t.end > word.start() and t.start < word.end()))
        for word in re.finditer(r"\S+", found.texts[row])
    ]


def word_claims(spoken: list[tuple[str, float]], gold: str) -> list[Word]:
    """The claims of one explanation: its first next word, and every recent word that has a true one to compare with.

    Args:
        spoken: of :func:`spoken_words`.
        gold: by the explainer.
    """
    names = [word for word, _ in spoken]
    if "Recent:" not in names or names[0] != "Next:" or len(names) < 3:
        return []
    cut = names.index("Recent:")
    next_gold, recent_gold = short_parts(gold)
    first, chance = spoken[1]
    first = first.removesuffix("." if cut == 2 else ",") or first
    found = [Word("next", first, chance, first in next_gold, 0)]
    recent = spoken[cut + 1 :][-WORDS:]
    for place in range(1, min(len(recent), len(recent_gold)) + 1):
        word, chance = recent[-place]
        kind = f"last {place}" if place < 3 else "earlier"
        found.append(Word(kind, word, chance, word == recent_gold[-place], place))
    return found
