"""Ten candidates of which one is right: equally long, of equally frequent words, of the same topic.

Rows are put into groups of ten that are alike, and everybody in a group is a candidate for all ten. Each candidate is
right once, so that nothing about the candidates tells which one is right this time.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.overlap import Rarity, likeness
from tl_nla.errors import InputError
from tl_nla.metrics import normalise

OPTIONS = 10


@dataclass(frozen=True)
class Choices:
    """Candidates of every row.

    Attributes:
        options: token ids, ``OPTIONS`` a row, all equally long.
        right: place of the right one, drawn at random.
    """

    options: list[list[list[int]]]
    right: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.options)


def matched_choices(
    pieces: Sequence[Sequence[int]], topics: Sequence[str], document: Int[Tensor, " n"], tokenizer: Any, seed: int
) -> Choices:  # fmt: skip
    """Groups of one topic (rare words in common) whose tokens are equally frequent.

    Args:
        pieces: token ids, equally long.
        topics: what each piece's document is about: a text.
        document: of each piece; no two of a group share one.
        tokenizer: of the ids.
        seed: of the draw.

    Raises:
        InputError: when the pieces differ in length, or there are too few documents.
    """
    rarity = Rarity(topics)
    about = [rarity.vector(topic) for topic in topics]
    counts = Counter(token for piece in pieces for token in piece)
    usual = torch.tensor([float(sum(counts[token] for token in piece)) for piece in pieces])
    topic = torch.tensor([[likeness(one, other) for other in about] for one in about])
    return grouped_choices(
        pieces, topic - (usual[:, None] - usual[None]).abs() / usual.std().clamp(min=1e-6), document, seed
    )


def nearest_choices(
    pieces: Sequence[Sequence[int]], acts: Float[Tensor, "n d_model"], document: Int[Tensor, " n"], seed: int
) -> Choices:  # fmt: skip
    """Groups of the nearest vectors: words have to tell near vectors apart.

    Args:
        pieces: token ids, equally long.
        acts: the vector of each.
        document: of each; no two of a group share one.
        seed: of the draw.
    """
    unit = normalise(acts)
    return grouped_choices(pieces, unit @ unit.T, document, seed)


def grouped_choices(
    pieces: Sequence[Sequence[int]], alike: Float[Tensor, "n n"], document: Int[Tensor, " n"], seed: int
) -> Choices:  # fmt: skip
    """Put rows into groups of ten that are alike; the last few rows borrow from the others.

    Args:
        pieces: token ids, equally long.
        alike: how alike two rows are, higher being more.
        document: of each row.
        seed: of the order in which groups are begun, and of places.

    Raises:
        InputError: when the pieces differ in length, or there are too few different ones.
    """
    if len({len(piece) for piece in pieces}) != 1:
        raise InputError("candidates must be equally long; cut the pieces to one length")
    rng, documents = random.Random(f"{seed}/candidates"), document.tolist()
    layer = [documents[:row].count(documents[row]) for row in range(len(pieces))]
    # The first rows of all documents are grouped first, then the second ones: no two of a group share a document.
    free = sorted(rng.sample(range(len(pieces)), len(pieces)), key=lambda row: layer[row])
    ranks = alike.argsort(1, descending=True).tolist()
    options: list[list[list[int]]] = [[] for _ in pieces]
    right = [0] * len(pieces)
    while free:
        first, left = free[0], set(free)
        group = [first]
        nearest = sorted(ranks[first], key=lambda row: (row not in left, abs(layer[row] - layer[first])))
        for other in nearest:
            apart = all(documents[other] != documents[one] and pieces[other] != pieces[one] for one in group)
            group += [other] if apart and len(group) < OPTIONS else []
        if len(group) < OPTIONS:
            raise InputError(f"{len(group)} different texts for {OPTIONS} candidates; test more documents")
        for row in group:
            if row in left:
                order = rng.sample(group, OPTIONS)
                options[row], right[row] = [list(pieces[one]) for one in order], order.index(row)
        free = [row for row in free if row not in group]
    return Choices(options, torch.tensor(right))
