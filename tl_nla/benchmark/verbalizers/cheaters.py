"""Planted cheaters that every benchmark run has to unmask: one quotes, one writes a code, one always says the same."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.words import Arm, Words, quote_end
from tl_nla.metrics import normalise

_SYMBOLS, _LARGEST, _REACH = 26, 30, 2.5


def quoting_cheater(tokenizer: Any) -> Arm:
    """Sees the text and quotes its end; what it says is true, and nothing of it was read from the vector.

    It ties with the black box that sees the same text, so that no headline credits it.
    """

    def say(rows: Rows, lengths: list[int]) -> list[str]:
        return [quote_end(tokenizer, past, many) for past, many in zip(rows.past, lengths, strict=True)]

    return Arm("cheater_quotes", say, "cheater", "text", keeps="end")


def constant_cheater(words: Words, calibration: Rows) -> Arm:
    """Says for every vector what the verbalizer says most often; it ties with the words about the mean."""

    def say(rows: Rows, lengths: list[int]) -> list[str]:
        said = words(words.own, calibration)
        return [max(sorted(set(said)), key=said.count)] * len(rows)

    return Arm("cheater_constant", say, "cheater", "nothing", equal=False)


class LetterCode:
    """Writes the vector's main directions in letters, one a direction, which only its own decoder reads.

    The decoder gets much of the vector back. A reader who learnt from plain words gets nothing, nor does any task that
    asks what the words mean.

    Args:
        acts: training vectors.
        tokenizer: letters that it lacks are replaced by words.
    """

    def __init__(self, acts: Float[Tensor, "n d_model"], tokenizer: Any) -> None:
        unit = normalise(acts)
        self.mean = unit.mean(0)
        _, spread, directions = torch.linalg.svd(unit - self.mean, full_matrices=False)
        kept = min(_LARGEST, len(spread))
        self.directions, self.spread = directions[:kept], (spread[:kept] / math.sqrt(len(acts))).clamp(min=1e-6)
        self.symbols = _symbols(tokenizer)
        self.steps = len(self.symbols) - 1
        self.place = {symbol: number for number, symbol in enumerate(self.symbols)}

    def say(self, rows: Rows, lengths: list[int]) -> list[str]:
        """One symbol a direction, as many as fit."""
        inside = (normalise(rows.acts) - self.mean) @ self.directions.T / self.spread
        steps = ((inside / _REACH + 1) / 2 * self.steps).round().clamp(0, self.steps).long()
        return [" ".join(self.symbols[step] for step in own[: max(1, many)])
                for own, many in zip(steps.tolist(), lengths, strict=True)]  # fmt: skip

    def reconstruct(self, texts: Sequence[str]) -> Float[Tensor, "n d_model"]:
        """The vectors back from the letters."""
        found = torch.zeros(len(texts), len(self.directions))
        for row, text in enumerate(texts):
            steps = [self.place[word] for word in text.split() if word in self.place][: len(self.directions)]
            values = (torch.tensor(steps, dtype=torch.float) / self.steps * 2 - 1) * _REACH
            found[row, : len(steps)] = values
        return self.mean + (found * self.spread) @ self.directions

    @property
    def arm(self) -> Arm:
        """The cheater."""
        return Arm("cheater_letters", self.say, "cheater")


def _symbols(tokenizer: Any) -> list[str]:
    letters = [chr(ord("a") + number) for number in range(_SYMBOLS)]
    if all(str(tokenizer.decode(tokenizer.encode(f"b {one}", add_special_tokens=False))).split()[-1:] == [one]
           for one in letters):  # fmt: skip
        return letters
    words = {str(tokenizer.decode([token])).strip() for token in range(len(tokenizer))}
    usable = sorted(word for word in words if word.isalnum() and word.isascii())
    return usable[:: max(1, len(usable) // _SYMBOLS)][:_SYMBOLS]
