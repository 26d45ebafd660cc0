"""Signed words chosen in view of what their reader will make of them.

Orthogonal matching pursuit fits a weight to each word, which no text tells. Here every word counts with the weight that
the reader gives to its place in its list, and the next word is chosen from what *these* weights leave over. Speech
coders call it analysis by synthesis (Atal & Remde 1982); with fixed weights it is a matching pursuit (Mallat & Zhang
1993) in a closed loop.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.oracle.labels.pursuit import ROWS, WORDS, largest

_SMALLEST_GAIN = 1e-3
_DECAY = 1e-3


@torch.no_grad()
def choose_words(
    vectors: Float[Tensor, "n width"], direction: Float[Tensor, "words width"], gain: Float[Tensor, " places"],
    words: int,
) -> Int[Tensor, "n k"]:  # fmt: skip
    """Choose words for vectors, each the one that brings the reader nearest; deterministic.

    Words are chosen in turn for the list of promoted and for that of suppressed ones, so that two lists tell the order.

    Args:
        vectors: to be told, of about length 1.
        direction: of each word, of length 1.
        gain: weight of a word by its place in the order.
        words: how many are chosen at most; no more than there are places.

    Returns:
        Index of each word, promoted and suppressed ones in turn; -1 behind the last word that brings the reader nearer.
    """
    words = min(words, len(gain))
    parts = [_choose(rows, direction, gain, words) for rows in vectors.split(ROWS)]
    return torch.cat(parts) if parts else torch.zeros(0, words, dtype=torch.long)


def signs(count: int) -> Float[Tensor, " count"]:
    """1 for the places of promoted words, -1 for those of suppressed ones."""
    return 1.0 - 2.0 * (torch.arange(count) % 2)


def _choose(rest: Tensor, direction: Tensor, gain: Tensor, words: int) -> Tensor:
    word = torch.full((len(rest), words), -1)
    going = torch.ones(len(rest), dtype=torch.bool)
    for step, sign in enumerate(signs(words).tolist()):
        product, best = _largest_product(sign * rest, direction, word[:, :step])
        going = going & (product > gain[step] / 2)  # only then does the squared error fall
        word[:, step] = torch.where(going, best, -1)
        rest = rest - (sign * gain[step] * going)[:, None] * direction[best]
    return word


def _largest_product(rows: Tensor, direction: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
    """The largest product of each row with a direction, and whose it is; words already said are left out."""
    value, best = torch.full((len(rows),), -torch.inf), torch.zeros(len(rows), dtype=torch.long)
    for first in range(0, len(direction), WORDS):
        products = rows @ direction[first : first + WORDS].T
        row, column = torch.nonzero((said >= first) & (said < first + WORDS), as_tuple=True)
        products[row, said[row, column] - first] = -torch.inf
        found, place = largest(products)
        better = found > value
        value, best = torch.where(better, found, value), torch.where(better, place + first, best)
    return value, best


def read_words(
    word: Int[Tensor, "n k"], direction: Float[Tensor, "words width"], gain: Float[Tensor, " places"]
) -> Float[Tensor, "n width"]:
    """What the reader makes of words: the sum of their directions, each with the weight of its place.

    Args:
        word: as :func:`choose_words` gives them; -1 where there is none.
        direction: of each word.
        gain: weight of each place.
    """
    weight = gain[: word.shape[1]] * signs(word.shape[1]) * (word >= 0)
    return torch.einsum("nk,nkw->nw", weight, direction[word.clamp_min(0)])


def fit_gain(
    word: Int[Tensor, "n k"], direction: Float[Tensor, "words width"], vectors: Float[Tensor, "n width"],
    scale: Float[Tensor, " n"],
) -> Float[Tensor, " k"]:  # fmt: skip
    """Weights of the places with which the words come nearest to vectors, by least squares.

    Args:
        word: chosen for each vector.
        direction: of each word.
        vectors: that the words stand for.
        scale: of each row; the reader multiplies its sum by it.
    """
    places = word.shape[1]
    products = torch.zeros(places, places, dtype=torch.float64)
    along = torch.zeros(places, dtype=torch.float64)
    for first in range(0, len(vectors), ROWS):
        rows = slice(first, first + ROWS)
        weight = signs(places) * (word[rows] >= 0) * scale[rows, None]
        told = (direction[word[rows].clamp_min(0)] * weight[..., None]).transpose(1, 2).reshape(-1, places).double()
        products += told.T @ told
        along += told.T @ vectors[rows].double().flatten()
    decay = _DECAY * products.diagonal().mean() + 1e-12
    found = torch.linalg.solve(products + decay * torch.eye(places).double(), along)
    return found.clamp_min(_SMALLEST_GAIN).float()
