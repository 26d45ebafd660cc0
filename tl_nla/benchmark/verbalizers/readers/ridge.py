"""Ridge regression in closed form, its strength chosen on rows left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.overlap import words_of

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_LEFT_OUT = 0.2


@dataclass(frozen=True)
class Ridge:
    """A fitted regression; calling it predicts.

    Attributes:
        weight: on centred features at spread 1.
        centre: of the features.
        spread: of the features.
        offset: of the targets.
    """

    weight: Float[Tensor, "features targets"]
    centre: Float[Tensor, " features"]
    spread: Float[Tensor, " features"]
    offset: Float[Tensor, " targets"]

    @classmethod
    def fit(cls, features: Float[Tensor, "n features"], targets: Float[Tensor, "n targets"]) -> "Ridge":
        """Fit, with the strength that predicts the last fifth of the rows, of other documents, best."""
        last = torch.arange(len(features)) >= (1 - _LEFT_OUT) * len(features)

        def loss(strength: float) -> float:
            guess = cls._at(features[~last], targets[~last], strength)(features[last])
            return float((guess - targets[last]).square().mean())

        return cls._at(features, targets, min(_STRENGTHS, key=loss))

    @classmethod
    def _at(cls, features: Tensor, targets: Tensor, strength: float) -> "Ridge":
        centre, offset = features.mean(0), targets.mean(0)
        spread = features.std(0).clamp(min=1e-3)
        scaled = (features - centre) / spread
        wide = features.shape[1] > len(features)  # then the smaller system has one equation a row
        gram = scaled @ scaled.T if wide else scaled.T @ scaled
        gram.diagonal().add_(strength * len(features))
        wanted = targets - offset if wide else scaled.T @ (targets - offset)
        found = torch.linalg.solve(gram, wanted)
        return cls(scaled.T @ found if wide else found, centre, spread, offset)

    def __call__(self, features: Float[Tensor, "n features"]) -> Float[Tensor, "n targets"]:
        """Predictions; features outside of what was seen in training are held within four spreads."""
        return ((features - self.centre) / self.spread).clamp(-4, 4) @ self.weight + self.offset


@dataclass(frozen=True)
class BagReader:
    """A regression on which words a text holds.

    Attributes:
        place: number of each known word.
        ridge: from the words to the targets.
    """

    place: dict[str, int]
    ridge: Ridge

    @classmethod
    def fit(cls, texts: Sequence[str], targets: Float[Tensor, "n targets"], vocabulary: int = 600) -> "BagReader":
        """Learn from texts."""
        counts = Counter(word for text in texts for word in set(words_of(text)))
        place = {word: number for number, (word, _) in enumerate(counts.most_common(vocabulary))}
        return cls(place, Ridge.fit(bags(texts, place), targets))

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n targets"]:
        """Predictions for texts."""
        return self.ridge(bags(texts, self.place))


def bags(texts: Sequence[str], place: dict[str, int]) -> Float[Tensor, "n words"]:
    """How often each known word stands in each text, three times at most."""
    found = torch.zeros(len(texts), len(place))
    for row, text in enumerate(texts):
        known = [place[word] for word in words_of(text) if word in place]
        found[row] = torch.tensor(known, dtype=torch.long).bincount(minlength=len(place)).clamp(max=3)
    return found
