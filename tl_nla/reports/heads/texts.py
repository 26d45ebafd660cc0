"""The texts of head cards as token ids, in batches of like length."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tl_nla.data.documents import Document
from tl_nla.errors import InputError
from tl_nla.model.probe import device_of
from tl_nla.model.text import TextEncoder
from tl_nla.reports.heads.config import HeadCardsConfig

SHORTEST = 8
"""Texts of fewer tokens are left out."""
_PATTERN_BUDGET = 2**23
"""Attention probabilities of a layer that are held at once; 32 MiB in float32, a few times over."""
_MOST = 16


@dataclass(frozen=True)
class Batch:
    """Some documents, padded on the right; a causal model reads nothing from what follows.

    Attributes:
        numbers: of the documents.
        tokens: their ids.
        real: false at padding.
        row: index into the batch, of each drawn position.
        column: the drawn positions.
    """

    numbers: tuple[int, ...]
    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    row: Int[Tensor, " n"]
    column: Int[Tensor, " n"]


@dataclass(frozen=True)
class Texts:
    """The drawn documents.

    Attributes:
        ids: token ids of each.
        heldout: which of them words are scored on.
        tokenizer: that made the ids.
    """

    ids: tuple[tuple[int, ...], ...]
    heldout: tuple[bool, ...]
    tokenizer: Any

    @classmethod
    def draw(cls, model: Any, texts: Sequence[str | Document], config: HeadCardsConfig) -> "Texts":
        """Draw documents and encode their beginnings.

        Raises:
            InputError: when fewer than two are long enough.
        """
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise InputError("the model has no tokenizer, so texts cannot be read; load it with its tokenizer")
        encode = TextEncoder(tokenizer, model)
        order = list(range(len(texts)))
        random.Random(config.seed).shuffle(order)
        limit = min(config.length, int(model.cfg.n_ctx))
        ids, heldout = [], []
        for number in order:
            given = texts[number]
            document = given if isinstance(given, Document) else Document(str(number), given)
            # A tokenizer reads no more of a long text than may be needed.
            found = encode(document.text[: 32 * limit]).cut(limit).ids
            if len(found) < SHORTEST:
                continue
            ids.append(tuple(found))
            heldout.append(Document("", str(document.notes.get("document") or document.text)).bucket < config.heldout)
            if len(ids) == config.documents:
                break
        if len(ids) < 2:
            raise InputError(f"{len(ids)} of {len(texts)} texts have {SHORTEST} tokens or more; give at least two")
        return cls(tuple(ids), tuple(heldout), tokenizer)

    def hash(self) -> str:
        """Of the token ids."""
        return hashlib.sha256(repr(self.ids).encode()).hexdigest()[:16]

    def text(self, ids: Sequence[int]) -> str:
        """The text of some ids."""
        return str(self.tokenizer.decode(list(ids)))

    def batches(self, model: Any, config: HeadCardsConfig, heads: int) -> Iterator[Batch]:
        """All documents, the longest first, with the positions drawn from each."""
        order = sorted(range(len(self.ids)), key=lambda number: -len(self.ids[number]))
        longest = len(self.ids[order[0]])
        size = max(1, min(_MOST, _PATTERN_BUDGET // (heads * longest * longest)))
        device = device_of(model)
        for first in range(0, len(order), size):
            numbers = order[first : first + size]
            width = len(self.ids[numbers[0]])
            tokens = torch.zeros(len(numbers), width, dtype=torch.long)
            real = torch.zeros(len(numbers), width, dtype=torch.bool)
            places = []
            for row, number in enumerate(numbers):
                own = self.ids[number]
                tokens[row, : len(own)], real[row, : len(own)] = torch.tensor(own), True
                places += [(row, column) for column in self.drawn(number, config)]
            rows, columns = torch.tensor(places).T
            yield Batch(tuple(numbers), tokens.to(device), real.to(device), rows.to(device), columns.to(device))

    def drawn(self, number: int, config: HeadCardsConfig) -> list[int]:
        """Positions drawn from a document, the first two left out."""
        places = range(2, len(self.ids[number]))
        return sorted(random.Random(f"{config.seed}/{number}").sample(places, min(config.rows, len(places))))
