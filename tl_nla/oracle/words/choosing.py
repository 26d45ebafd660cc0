"""Signed words chosen in view of what their reader will make of them.

Orthogonal matching pursuit fits a weight to each word, which no text tells. Here the reader gives every place in the
order a shape: how much a word there counts along each direction of the write. The next word is the one whose shaped
direction brings this reader nearest. Speech coders call it analysis by synthesis (Atal & Remde 1982). The words are a
random codebook of several stages; what the codewords of a stage should look like is known (:func:`fit_shapes`).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.oracle.labels.pursuit import ROWS, WORDS, largest

_DECAY = 0.02
_HALVINGS = 40
_SMALLEST = 1e-12


@torch.no_grad()
def choose_words(
    vectors: Float[Tensor, "n width"], direction: Float[Tensor, "words width"], shape: Float[Tensor, "places width"],
    words: int,
) -> Int[Tensor, "n k"]:  # fmt: skip
    """Choose words for vectors, each the one that brings the reader nearest; deterministic.

    Words are chosen in turn for the list of promoted and for that of suppressed ones, so that two lists tell the order.

    Returns:
        Index of each word, promoted and suppressed ones in turn; -1 behind the last word that brings the reader nearer.
    """
    words = min(words, len(shape))
    square = direction.square()
    parts = [_choose(rows, direction, square, shape[:words]) for rows in vectors.split(ROWS)]
    return torch.cat(parts) if parts else torch.zeros(0, words, dtype=torch.long)


def signs(count: int) -> Float[Tensor, " count"]:
    """1 for the places of promoted words, -1 for those of suppressed ones."""
    return 1.0 - 2.0 * (torch.arange(count) % 2)


def _choose(rest: Tensor, direction: Tensor, square: Tensor, shape: Tensor) -> Tensor:
    word = torch.full((len(rest), len(shape)), -1)
    going = torch.ones(len(rest), dtype=torch.bool)
    for step, sign in enumerate(signs(len(shape)).tolist()):
        won, best = _best(sign * rest, (direction, square), shape[step], word[:, :step])
        going = going & (won > 0)  # only then does the squared error fall
        word[:, step] = torch.where(going, best, -1)
        rest = rest - (sign * going)[:, None] * (direction[best] * shape[step])
    return word


def _best(rows: Tensor, words: tuple[Tensor, Tensor], shape: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the squared error halves at best, and through which word; words already said are left out."""
    direction, square = words
    value, best = torch.full((len(rows),), -torch.inf), torch.zeros(len(rows), dtype=torch.long)
    rows, size = rows * shape, shape.square()
    for first in range(0, len(direction), WORDS):
        part = slice(first, first + WORDS)
        won = torch.addmm(square[part] @ size, rows, direction[part].T, beta=-0.5)
        row, column = torch.nonzero((said >= first) & (said < first + WORDS), as_tuple=True)
        won[row, said[row, column] - first] = -torch.inf
        found, place = largest(won)
        better = found > value
        value, best = torch.where(better, found, value), torch.where(better, place + first, best)
    return value, best


def read_words(
    word: Int[Tensor, "n k"], direction: Float[Tensor, "words width"], shape: Float[Tensor, "places width"]
) -> Float[Tensor, "n width"]:
    """What the reader makes of words: the sum of their directions, each in the shape of its place."""
    found = torch.zeros(len(word), direction.shape[1])
    for place, sign in enumerate(signs(word.shape[1]).tolist()):
        said = sign * (word[:, place] >= 0)
        found += said[:, None] * (direction[word[:, place].clamp_min(0)] * shape[place])
    return found


@torch.no_grad()
def fit_shapes(
    vectors: Float[Tensor, "n width"], direction: Float[Tensor, "words width"], places: int, passes: int
) -> Float[Tensor, "places width"]:
    """Shapes of the places, one after the other, for the words that are then chosen.

    A stage of a code of ``log2(words)`` bits should have codewords that vary along each direction by what reverse water
    filling leaves of the variance there (Cover & Thomas, "Elements of Information Theory", 10.3.3). From there on words
    are chosen and the factors fitted to them by least squares, in turn.

    Args:
        vectors: that words will stand for, centred.
        direction: of each word; along every coordinate with a variance of 1.
        places: how many.
        passes: how often words are chosen and factors fitted anew.
    """
    rest, square, found = vectors.clone(), direction.square(), []
    for sign in signs(places).tolist():
        shape = _filled(rest.square().mean(0), math.log2(max(2, len(direction))))
        for done in range(passes + 1):
            chosen = [_best(sign * rows, (direction, square), shape, torch.zeros(len(rows), 0, dtype=torch.long))
                      for rows in rest.split(ROWS)]  # fmt: skip
            won, best = (torch.cat(parts) for parts in zip(*chosen, strict=True))
            told = sign * direction[best] * (won > 0)[:, None]
            if done < passes:
                along, size = (rest * told).sum(0), told.square().sum(0)
                shape = (along / (size + _DECAY * size.mean() + _SMALLEST)).clamp_min(0)
        rest = rest - told * shape
        found.append(shape)
    return torch.stack(found)


def _filled(variance: Tensor, bits: float) -> Tensor:
    """Standard deviation of codewords along each direction, by reverse water filling."""
    low, high = torch.zeros(()), variance.max()
    for _ in range(_HALVINGS):
        level = (low + high) / 2
        rate = 0.5 * (variance / level.clamp_min(_SMALLEST)).clamp_min(1).log2().sum()
        low, high = (level, high) if rate > bits else (low, level)
    return (variance - high).clamp_min(0).sqrt()
