"""Readers that turn plain words back into vectors; they have never seen a verbalizer's words.

One learns from quotes, one from lists of rare words, one from the explainer's own sentences, all about training texts.
So they know what words mean and nothing of a code that a verbalizer and its reconstructor agreed on.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.likelihood import LikelihoodReader
from tl_nla.benchmark.verbalizers.readers.overlap import Rarity, words_of
from tl_nla.benchmark.verbalizers.readers.ridge import ScaledRidge, bags
from tl_nla.benchmark.verbalizers.rows import Material
from tl_nla.faithfulness.scoring import Reconstruct, training_mean
from tl_nla.metrics import normalise, squared_deviations

_VOCABULARY = 600
_BUDGETS = (8, 16, 32, 64)


@dataclass(frozen=True)
class PlainReader:
    """Words to vectors, by a language model's states about the words and by the words themselves.

    Attributes:
        reader: the base model.
        layer: whose states are used.
        place: number of each known word.
        ridge: from both to the vector.
    """

    reader: LikelihoodReader
    layer: int
    place: dict[str, int]
    ridge: ScaledRidge

    @classmethod
    def fit(
        cls, reader: LikelihoodReader, layer: int, texts: Sequence[str], acts: Float[Tensor, "n d_model"]
    ) -> "PlainReader":
        """Learn from texts about vectors."""
        counts = Counter(word for text in texts for word in set(words_of(text)))
        place = {word: number for number, (word, _) in enumerate(counts.most_common(_VOCABULARY))}
        return cls(reader, layer, place, ScaledRidge.fit(_features(reader, layer, place, texts), normalise(acts)))

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n d_model"]:
        """Vectors read back from texts."""
        return self.ridge(_features(self.reader, self.layer, self.place, texts))


class PlainReaders:
    """The plain readers, of which every arm gets the one that suits it."""

    def __init__(
        self, reader: LikelihoodReader, layer: int, train: Material, tokenizer: Any, rarity: Rarity, seed: int
    ) -> None:
        self.base, self.layer, self.mean = reader, layer, training_mean(train.rows.acts)
        kinds = plain_texts(train, tokenizer, rarity, seed)
        self.readers: dict[str, Callable[[Sequence[str]], Tensor]] = {
            kind: PlainReader.fit(reader, layer, texts, train.rows.acts) for kind, texts in kinds.items()
        }
        self.readers["mean"] = lambda texts: self.mean.expand(len(texts), -1)

    def prepare(self, texts: Sequence[str]) -> None:
        """Read texts ahead, so that one pass tells of a text and of the texts that begin it."""
        self.base.features(texts, self.layer)

    def choose(self, texts: Sequence[str], acts: Float[Tensor, "n d_model"]) -> Reconstruct:
        """The reader that reads an arm's words best on calibration rows; the mean where none reads anything.

        It is one choice of four, so that it can hold no code.
        """
        losses = {kind: float(self.errors(read, texts, acts).mean()) for kind, read in self.readers.items()}
        return self.readers[min(losses, key=lambda kind: losses[kind])]

    def errors(
        self, read: Reconstruct, texts: Sequence[str], acts: Float[Tensor, "n d_model"]
    ) -> Float[Tensor, " n"]:  # fmt: skip
        """Squared error of each text's vector as a share of the variance; 1 - its mean is an FVE.

        States are normalised. Readings are not: a reader that is unsure says something near the mean.
        """
        missed = (read(list(texts)) - normalise(acts)).square().sum(1).double()
        return missed / squared_deviations(acts, self.mean).mean()


def plain_texts(train: Material, tokenizer: Any, rarity: Rarity, seed: int) -> dict[str, list[str]]:
    """Plain words about training states by kind: quotes, lists of rare words, sentences; of many lengths."""
    rng = random.Random(f"{seed}/plain")
    found: dict[str, list[str]] = {"quotes": [], "lists": [], "sentences": []}
    for row, past in enumerate(train.rows.past):
        budget = rng.choice(_BUDGETS)
        found["quotes"].append(str(tokenizer.decode(past[-budget:], skip_special_tokens=True)))
        rare = sorted(dict.fromkeys(words_of(tokenizer.decode(past))), key=rarity, reverse=True)
        found["lists"].append(" ".join(rare[:budget]))
        written = train.gold[row] if row % 4 else train.recent[row]
        short = tokenizer.encode(written, add_special_tokens=False)[: rng.choice((*_BUDGETS, 1000))]
        found["sentences"].append(str(tokenizer.decode(short)))
    return found


def _features(
    reader: LikelihoodReader, layer: int, place: dict[str, int], texts: Sequence[str]
) -> Float[Tensor, "n features"]:
    return torch.cat([reader.features(texts, layer), bags(texts, place)], 1)
