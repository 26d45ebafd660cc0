"""Words as directions: each word is its row of the model's own unembedding, within what a component can write."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.model.targets import Target
from tl_nla.oracle.labels import Lens
from tl_nla.oracle.texts import parse_label, parse_words
from tl_nla.oracle.words.tables import head_bases, unit_rows

PLACES = 32
"""Words of each list that count."""
_DECAY = 1e-2
_ROWS = 256

Lists = tuple[list[int], list[int]]
"""Tokens of promoted and of suppressed words."""


class Directions:
    """The direction of each token in what a component can write."""

    def __init__(self, target: Target, sites: Sequence[str]) -> None:
        self.tokenizer, self.lens = target.tokenizer, Lens.of(target.model)
        self.bases = head_bases(target.model, list(sites))
        self._usual = self._rows(torch.arange(self.lens.weight.shape[1]).split(2**14))
        self._lists: dict[str, Lists] = {}

    def of(self, site: str, tokens: Int[Tensor, " m"]) -> Float[Tensor, "m d_model"]:
        """Directions of length 1 in the stream."""
        rows = self._centred(tokens) - self._usual
        basis = self.bases.get(site)
        return unit_rows(rows if basis is None else (rows @ basis) @ basis.T)

    def lists(self, text: str) -> Lists:
        """Tokens that a text names: what it says to be promoted and suppressed; without such lists, all its words."""
        if text not in self._lists:
            label = parse_label(text)
            up, down = label.promoted or (), label.suppressed or ()
            named = (up, down) if up or down else (tuple(parse_words(text.replace(".", " "))), ())
            self._lists[text] = tuple([self._token(word) for word in side][:PLACES] for side in named)  # type: ignore[assignment]
        return self._lists[text]

    def _token(self, word: str) -> int:
        spaced, bare = (self.tokenizer.encode(one, add_special_tokens=False) for one in (f" {word}", word))
        return int((bare if len(bare) == 1 < len(spaced) else spaced or bare or [0])[0])

    def _centred(self, tokens: Tensor) -> Tensor:
        rows = self.lens.weight.T[tokens.to(self.lens.weight.device)].float().cpu()
        rows = rows if self.lens.gain is None else rows * self.lens.gain.float().cpu()
        return rows - rows.mean(1, keepdim=True) if self.lens.centred else rows

    def _rows(self, pieces: Sequence[Tensor]) -> Float[Tensor, " d_model"]:
        return torch.stack([self._centred(piece).sum(0) for piece in pieces]).sum(0) / sum(map(len, pieces))


@dataclass(frozen=True)
class WordSum:
    """Reads lists of words as a sum of directions, each with the weight of its place in its list.

    Attributes:
        directions: of words.
        gain: weight of each place, promoted words first.
    """

    directions: Directions = field(repr=False)
    gain: Float[Tensor, " places"]

    @classmethod
    def fit(
        cls, directions: Directions, lists: Sequence[Lists], sites: Sequence[str], wanted: Float[Tensor, "n d_model"]
    ) -> "WordSum":
        """Weights with which plain lists come nearest to vectors, by least squares."""
        products, along = torch.zeros(2 * PLACES, 2 * PLACES, dtype=torch.float64), torch.zeros(2 * PLACES).double()
        for rows in by_site(sites):
            for some in rows.split(_ROWS):
                told = _told(directions, [lists[row] for row in some.tolist()], sites[int(some[0])])
                flat = told.transpose(1, 2).reshape(-1, 2 * PLACES).double()
                products += flat.T @ flat
                along += flat.T @ wanted[some].double().flatten()
        decay = _DECAY * products.diagonal().mean() + 1e-9
        return cls(directions, torch.linalg.solve(products + decay * torch.eye(2 * PLACES).double(), along).float())

    def __call__(self, texts: Sequence[str], sites: Sequence[str]) -> Float[Tensor, "n d_model"]:
        """What texts say that components wrote."""
        found = torch.zeros(len(texts), self.directions.lens.weight.shape[0])
        for rows in by_site(sites):
            for some in rows.split(_ROWS):
                lists = [self.directions.lists(texts[row]) for row in some.tolist()]
                found[some] = torch.einsum("k,nkd->nd", self.gain, _told(self.directions, lists, sites[int(some[0])]))
        return found


def by_site(sites: Sequence[str]) -> list[Int[Tensor, " m"]]:
    """Rows of each component."""
    rows: dict[str, list[int]] = {}
    for row, site in enumerate(sites):
        rows.setdefault(site, []).append(row)
    return [torch.tensor(own) for own in rows.values()]


def _told(directions: Directions, lists: Sequence[Lists], site: str) -> Float[Tensor, "n places d_model"]:
    """The direction at each place, suppressed words turned round; zero where a list is shorter."""
    used = torch.tensor(sorted({token for pair in lists for side in pair for token in side}), dtype=torch.long)
    table = torch.cat([directions.of(site, used), torch.zeros(1, directions.lens.weight.shape[0])])
    place = {token: number for number, token in enumerate(used.tolist())}
    empty = [len(used)] * PLACES
    index = torch.tensor([[*([place[token] for token in up] + empty)[:PLACES],
                           *([place[token] for token in down] + empty)[:PLACES]] for up, down in lists])  # fmt: skip
    sign = torch.cat([torch.ones(PLACES), -torch.ones(PLACES)])
    return table[index] * sign[:, None]


def plain_lists(
    directions: Directions, vectors: Float[Tensor, "n d_model"], many: Sequence[int], usable: Any
) -> list[Lists]:  # fmt: skip
    """The words that the read-out finds in vectors, best first: what anybody would call promoted and suppressed."""
    found: list[Lists] = []
    for first in range(0, len(vectors), _ROWS):
        logits = directions.lens.logits(vectors[first : first + _ROWS], usable).cpu()
        up, down = (usable[(sign * logits).topk(min(PLACES, len(usable))).indices] for sign in (1, -1))
        counts = many[first : first + _ROWS]
        found += [(one[:k], other[:k]) for one, other, k in zip(up.tolist(), down.tolist(), counts, strict=True)]
    return found
