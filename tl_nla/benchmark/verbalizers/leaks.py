"""Leak tests: what a reader gets right without any words, and from the candidates alone."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.benchmark.bootstrap import Interval, mean_interval
from tl_nla.benchmark.verbalizers.candidates import OPTIONS, Choices
from tl_nla.benchmark.verbalizers.readers.base import BlindReader, picked
from tl_nla.benchmark.verbalizers.readers.overlap import Rarity, likeness


@dataclass(frozen=True)
class Leak:
    """One test.

    Attributes:
        task: whose candidates were tested.
        test: what the guess was made from.
        accuracy: share of right guesses; chance is one tenth.
    """

    task: str
    test: str
    accuracy: Interval

    @property
    def found(self) -> bool:
        """Whether guessing was better than chance."""
        return self.accuracy.low > 1 / OPTIONS


def leak_tests(
    choices: Mapping[str, Choices], document: Int[Tensor, " n"], reader: BlindReader, tokenizer: Any, seed: int
) -> list[Leak]:  # fmt: skip
    """Guess without words: with the reader on empty words, from the candidates, and from their places."""
    found = []
    for task, own in choices.items():
        counts = Counter(token for row in own.options for piece in row for token in piece)
        rarity = Rarity(tokenizer.decode(piece) for row in own.options for piece in row)
        often, middle = _frequency(own, counts), _central(own, rarity, tokenizer)
        guesses = {
            "empty words": reader.scores([""] * len(own), own.options),
            "frequent words": often,
            "rare words": -often,
            "most central": middle,
            "least central": -middle,
            "first place": torch.eye(len(own.options[0]))[:1].expand(len(own), -1),
        }
        for name, scores in guesses.items():
            right = picked(scores, own.right)
            generator = torch.Generator().manual_seed(seed)
            found.append(Leak(task, name, mean_interval(right, document, generator=generator, resamples=1000)))
    return found


def _frequency(choices: Choices, counts: Counter[int]) -> Float[Tensor, "n k"]:
    return torch.tensor([[sum(counts[token] for token in piece) / len(piece) for piece in row]
                         for row in choices.options])  # fmt: skip


def _central(choices: Choices, rarity: Rarity, tokenizer: Any) -> Float[Tensor, "n k"]:
    """How like each candidate is to the others of its row: those around the right one would give it away."""
    rows = []
    for options in choices.options:
        own = [rarity.vector(tokenizer.decode(piece)) for piece in options]
        rows.append([sum(likeness(one, other) for other in own if other is not one) for one in own])
    return torch.tensor(rows)
