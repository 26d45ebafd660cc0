"""Labels of one head's writes as two lists of words each, and what a linear reader sees of such a label."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tl_nla.oracle.labels.directions import WordDirections
from tl_nla.oracle.labels.vocabulary import Vocabulary, decoded_tokens

_SLOTS = 4


@dataclass(frozen=True)
class TwoLists:
    """A label of every row: words made more likely and words made less likely, in order; -1 where there are fewer.

    Attributes:
        up: index into the directions.
        down: the same of the other list.
    """

    up: Tensor
    down: Tensor

    def shorter(self, words: int) -> "TwoLists":
        """The first words of each list."""
        return TwoLists(self.up[:, :words], self.down[:, :words])


def strongest(vectors: Tensor, unit: Tensor, length: Tensor, words: int) -> TwoLists:
    """Half of the words are those whose logits rise most, half those whose logits fall most."""
    parts = []
    for rows in vectors.split(256):
        logits = (rows @ unit.T) * length
        parts.append((logits.topk(words // 2).indices, (-logits).topk(words // 2).indices))
    return TwoLists(torch.cat([up for up, _ in parts]), torch.cat([down for _, down in parts]))


def first_words(vectors: Tensor, word: Tensor, directions: WordDirections, words: int) -> tuple[Tensor, Tensor]:
    """The first words of a longer pursuit, which are those of a shorter one, and their weights fitted anew."""
    word = word[:, :words]
    rows = torch.where((word >= 0)[..., None], directions.direction[word.clamp_min(0)], 0.0)
    gram = rows @ rows.transpose(1, 2) + 1e-6 * torch.eye(words)
    return word, torch.linalg.solve(gram, (rows @ vectors[..., None]))[..., 0].masked_fill(word < 0, 0.0)


def two_lists(word: Tensor, weight: Tensor) -> TwoLists:
    """Signed words in the order of the choice as two lists."""
    sides = []
    for sign in (1, -1):
        mine = (word >= 0) & (weight * sign > 0)
        order = (~mine).long().argsort(dim=1, stable=True)
        sides.append(torch.where(mine.gather(1, order), word.gather(1, order), -1))
    return TwoLists(*sides)


def whole_words(tokenizer: object, vocabulary: Vocabulary, counts: Tensor) -> Tensor:
    """Tokens that are whole words of two or more letters and occur in the training texts."""
    texts = decoded_tokens(tokenizer, len(counts))
    whole = [text[:1] == " " and text[1:].isalpha() and len(text) > 2 for text in texts]
    whole += [False] * (len(counts) - len(whole))
    return torch.tensor(whole) & (counts > 0) & vocabulary.allowed


def seen(label: TwoLists, table: Tensor) -> Tensor:
    """What a linear reader sees of two lists: plain and rank-weighted sums of each, and the first words by place."""
    parts = []
    for side in (label.up, label.down):
        there = (side >= 0)[..., None]
        rows = torch.where(there, table[side.clamp_min(0)], 0.0)
        weight = torch.arange(1, side.shape[1] + 1).float().rsqrt()
        first = torch.nn.functional.pad(rows[:, :_SLOTS], (0, 0, 0, max(0, _SLOTS - rows.shape[1])))
        parts += [rows.sum(1), (rows * weight[:, None]).sum(1), first.flatten(1)]
    return torch.cat(parts, 1)


def seen_in_order(word: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """What a linear reader sees of signed words in the order in which they were chosen."""
    rows = torch.where((word >= 0)[..., None], table[word.clamp_min(0)], 0.0) * weight.sign()[..., None]
    ranks = torch.arange(1, word.shape[1] + 1).float().rsqrt()
    return torch.cat([rows.flatten(1), (rows * ranks[:, None]).sum(1)], 1)
