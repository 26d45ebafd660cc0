"""Ridge regression on scaled features, its strength chosen on rows left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.overlap import words_of
from tl_nla.metrics.ridge import Ridge, fit_ridge

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_LEFT_OUT = 0.2


@dataclass(frozen=True)
class ScaledRidge:
    """A regression on features at spread 1; calling it predicts.

    Attributes:
        fitted: on the scaled features.
        centre: of the features.
        spread: of the features.
    """

    fitted: Ridge
    centre: Float[Tensor, " features"]
    spread: Float[Tensor, " features"]

    @classmethod
    def fit(cls, features: Float[Tensor, "n features"], targets: Float[Tensor, "n targets"]) -> "ScaledRidge":
        """Fit, with the strength that predicts the last fifth of the rows, of other documents, best."""
        last = torch.arange(len(features)) >= (1 - _LEFT_OUT) * len(features)

        def loss(strength: float) -> float:
            guess = cls._at(features[~last], targets[~last], strength)(features[last])
            return float((guess - targets[last]).square().mean())

        return cls._at(features, targets, min(_STRENGTHS, key=loss))

    @classmethod
    def _at(cls, features: Tensor, targets: Tensor, strength: float) -> "ScaledRidge":
        centre, spread = features.mean(0), features.std(0).clamp(min=1e-3)
        scaled = (features - centre) / spread
        return cls(fit_ridge(scaled, targets, strength * len(features), relative=False), centre, spread)

    def __call__(self, features: Float[Tensor, "n features"]) -> Float[Tensor, "n targets"]:
        """Predictions; features outside of what was seen in training are held within four spreads."""
        return self.fitted.predict(((features - self.centre) / self.spread).clamp(-4, 4)).float()


@dataclass(frozen=True)
class BagReader:
    """A regression on which words a text holds.

    Attributes:
        place: number of each known word.
        ridge: from the words to the targets.
    """

    place: dict[str, int]
    ridge: ScaledRidge

    @classmethod
    def fit(cls, texts: Sequence[str], targets: Float[Tensor, "n targets"], vocabulary: int = 600) -> "BagReader":
        """Learn from texts."""
        counts = Counter(word for text in texts for word in set(words_of(text)))
        place = {word: number for number, (word, _) in enumerate(counts.most_common(vocabulary))}
        return cls(place, ScaledRidge.fit(bags(texts, place), targets))

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
