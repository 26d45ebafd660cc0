"""A blind reader that counts words in common, rare ones more."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case."""
    return _WORD.findall(text.lower())


def neighbours(text: str) -> str:
    """A text whose words are the pairs of neighbouring words of another text, each pair written as one word."""
    words = words_of(text)
    return " ".join(map("".join, pairwise(words)))


class Rarity:
    """How rare words are: the logarithm of the inverse share of texts that hold them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.count, self.number = Counter[str](), 0
        for text in texts:
            self.count.update(set(words_of(text)))
            self.number += 1

    def __call__(self, word: str) -> float:
        """The rarity of a word; that of a word in every text is 0."""
        return math.log((self.number + 1) / (self.count[word] + 1))

    def vector(self, text: str) -> dict[str, float]:
        """The text's different words with their rarity, at length 1."""
        weights = {word: self(word) for word in set(words_of(text))}
        norm = math.sqrt(sum(value**2 for value in weights.values())) or 1.0
        return {word: value / norm for word, value in weights.items()}


def likeness(one: dict[str, float], other: dict[str, float]) -> float:
    """Cosine of two texts' vectors of words."""
    small, large = sorted((one, other), key=len)
    return float(sum(value * large.get(word, 0.0) for word, value in small.items()))


class OverlapReader:
    """Scores a candidate by the rare words that it shares with the words."""

    name = "overlap"

    def __init__(self, tokenizer: Any, rarity: Rarity) -> None:
        self.tokenizer, self.rarity = tokenizer, rarity

    def scores(
        self, words: Sequence[str], candidates: Sequence[Sequence[Sequence[int]]],
        question: Sequence[Sequence[int]] = (),
    ) -> Float[Tensor, "n k"]:  # fmt: skip
        """Score every candidate of every row; the question is not used."""
        kept: dict[tuple[int, ...], dict[str, float]] = {}
        rows = []
        for text, options in zip(words, candidates, strict=True):
            own, scored = self.rarity.vector(text), []
            for option in map(tuple, options):
                if option not in kept:
                    kept[option] = self.rarity.vector(self.tokenizer.decode(list(option)))
                scored.append(likeness(own, kept[option]))
            rows.append(scored)
        return torch.tensor(rows)
