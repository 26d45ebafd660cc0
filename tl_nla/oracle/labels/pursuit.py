"""A vector as a few signed words, chosen jointly: orthogonal matching pursuit over the unembedding.

The strongest tokens of a write repeat each other ("France French Paris"). Here each word is the one that fits best what
the words before it leave over, and all weights are fitted anew. (Pati et al. 1993, "Orthogonal matching pursuit"; Tropp
2004.) Rows and words are searched a block at a time, so memory does not grow with either.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.oracle.labels.directions import WordDirections

ROWS, WORDS = 256, 4096
"""Products held at once: few enough to stay in the processor's cache."""
TOLERANCE = 1e-5
"""Correlation with what is left, as a share of the vector's length, below which no further word is named."""
_FOLD = 16


@dataclass(frozen=True)
class Pursuit:
    """The words chosen for each vector, in the order in which they were chosen.

    Attributes:
        word: index into the directions; -1 where nothing was left to say.
        weight: of each word's direction in the least-squares sum of all of them; 0 where there is no word.
        rest: what the sum leaves over, in the coordinates of the directions.
    """

    word: Int[Tensor, "n k"]
    weight: Float[Tensor, "n k"]
    rest: Float[Tensor, "n width"]


@torch.no_grad()
def pursue(vectors: Float[Tensor, "n width"], directions: WordDirections, words: int = 8) -> Pursuit:
    """Choose words for vectors; deterministic, computed in float32.

    A thousand rows of a head of width 64 take about a processor second at 8 of 49,152 words.

    Args:
        vectors: in the coordinates of the directions, such as ``directions.coordinates(usual.beside(site, write))``.
        directions: the words to choose from.
        words: how many are chosen at most.

    Returns:
        Words, signed weights and the rest, which is orthogonal to every chosen direction.

    Raises:
        InputError: for another width than the directions', or no words.

    Example:
        >>> found = pursue(directions.coordinates(difference), directions, words=8)
        >>> [[directions.text[i] for i in row] for row in found.word.tolist()]
    """
    check_count("words", words)
    if vectors.ndim != 2 or vectors.shape[1] != directions.direction.shape[1]:
        raise InputError(
            f"vectors have shape {tuple(vectors.shape)}; their width must be {directions.direction.shape[1]}, that of "
            "the directions (use their .coordinates)"
        )
    preference = directions.preference.to(directions.direction)
    searched = directions.direction * preference[:, None]
    parts = [_pursue(rows.float(), directions.direction, searched, words) for rows in vectors.split(ROWS)]
    if not parts:
        empty = vectors.new_zeros(0, words)
        return Pursuit(empty.long(), empty.float(), vectors.float())
    return Pursuit(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _pursue(target: Tensor, direction: Tensor, searched: Tensor, words: int) -> tuple[Tensor, Tensor, Tensor]:
    """One block of rows: an orthonormal basis of the chosen directions grows by one vector a word (QR)."""
    count, width = target.shape
    target = target.to(direction)
    rest = target.clone()
    basis = target.new_zeros(count, words, width)
    upper = torch.eye(words).to(target).repeat(count, 1, 1)
    along = target.new_zeros(count, words)
    word = torch.full((count, words), -1, device=target.device)
    smallest = target.norm(dim=1) * TOLERANCE
    for step in range(words):
        best = _best(rest, searched)
        chosen = direction[best]
        told = (chosen * rest).sum(1).abs() > smallest
        known = basis[:, :step]
        inside = torch.einsum("nsw,nw->ns", known, chosen)
        new = chosen - torch.einsum("nsw,ns->nw", known, inside)
        again = torch.einsum("nsw,nw->ns", known, new)  # once more, or rounding would build up
        new = new - torch.einsum("nsw,ns->nw", known, again)
        length = new.norm(dim=1)
        told &= length > TOLERANCE
        new = torch.where(told[:, None], new / length.clamp_min(TOLERANCE)[:, None], 0.0)
        basis[:, step] = new
        upper[:, :step, step] = torch.where(told[:, None], inside + again, 0.0)
        upper[:, step, step] = torch.where(told, length, 1.0)
        along[:, step] = (new * rest).sum(1)
        rest = rest - along[:, step, None] * new
        word[:, step] = torch.where(told, best, -1)
    weight = torch.linalg.solve_triangular(upper, along[:, :, None], upper=True)[..., 0]
    return word, weight.masked_fill(word < 0, 0.0), rest


def _best(rest: Float[Tensor, "n width"], searched: Float[Tensor, "words width"]) -> Int[Tensor, " n"]:
    """The direction with the largest product, either sign, of each row."""
    value = rest.new_full((len(rest),), -1.0)
    best = torch.zeros(len(rest), dtype=torch.long, device=rest.device)
    for start in range(0, len(searched), WORDS):
        found, place = largest((rest @ searched[start : start + WORDS].T).abs_())
        better = found > value
        value, best = torch.where(better, found, value), torch.where(better, place + start, best)
    return best


def largest(values: Float[Tensor, "n words"]) -> tuple[Tensor, Tensor]:
    """``values.max(1)`` by maxima over folded columns, which are many times faster than maxima with their places."""
    count, tail = divmod(values.shape[1], _FOLD)
    if tail or count < _FOLD:
        found = values.max(1)
        return found.values, found.indices
    folded = values.unflatten(1, (_FOLD, count))
    top = folded.amax(1).max(1)
    inside = folded.gather(2, top.indices[:, None, None].expand(-1, _FOLD, 1))[..., 0].argmax(1)
    return top.values, inside * count + top.indices
