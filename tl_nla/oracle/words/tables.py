"""What a code of words takes from the model that is explained: directions of words, and where each head can write."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.files import read_safetensors
from tl_nla.model.reading import read
from tl_nla.model.sites import Site
from tl_nla.oracle.labels import Lens, Vocabulary, whole_words

_SMALLEST, _FLAT = 1e-12, 1e-6
_PROBED, _KEPT = 8, 16
MOST_WORDS = 16384
"""Words of a code at most, if nothing else is said."""
_FEWEST = 200
"""With fewer words than this the most frequent ones would not span what components write: all tokens are taken."""


@dataclass(frozen=True)
class WordTables:
    """Directions of words and bases of heads.

    Attributes:
        token: id of each word.
        text: how each is written; no two alike.
        table: what each word's logit reads in the stream, its mean over the words left out.
        basis: by site, orthonormal columns of the space that a head writes into, or that a code tells of; the whole
            stream for sites that are not here.
    """

    token: Int[Tensor, " words"]
    text: tuple[str, ...]
    table: Float[Tensor, "words d_model"]
    basis: dict[str, Float[Tensor, "d_model width"]]
    _known: dict[tuple[str | None, int], Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any, words: tuple[Int[Tensor, " words"], tuple[str, ...]], sites: Sequence[str]) -> "WordTables":
        """Take them from a model.

        Args:
            model: a TransformerLens model.
            words: token ids and texts, see :func:`frequent_words`.
            sites: that are explained.

        Raises:
            InputError: for a model whose read-out is not known, or heads that do not add up to their write.

        Example:
            >>> tables = WordTables.of(model, frequent_words(tokenizer, counts), ["blocks.3.attn.head.0"])
        """
        token, text = words
        lens = Lens.of(model)
        rows = lens.weight.detach().T[token.to(lens.weight.device)].float()
        rows = rows if lens.gain is None else rows * lens.gain.float()
        rows = rows - rows.mean(1, keepdim=True) if lens.centred else rows
        return cls(token, text, (rows - rows.mean(0)).cpu(), head_bases(model, sites))

    def basis_of(self, site: str) -> Float[Tensor, "d_model width"] | None:
        """The space that a site writes into; ``None`` for the whole stream."""
        return self.basis.get(site)

    def directions(self, site: str, count: int | None = None) -> Float[Tensor, "words width"]:
        """Each word's direction within what a site can write, see :func:`whitened`.

        Args:
            site: the component.
            count: of how many words, the first ones; all when ``None``.
        """
        table = self.table[:count]
        key = site if site in self.basis else None, len(table)
        if key not in self._known:
            while len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[key] = whitened(table if key[0] is None else table @ self.basis[site])
        return self._known[key]

    def first(self, count: int) -> "WordTables":
        """Tables of the first words, which are the most frequent ones."""
        table = self.table[:count]
        return WordTables(self.token[:count], self.text[:count], table - table.mean(0), self.basis)

    def joined(self, bases: dict[str, Float[Tensor, "d_model width"]]) -> "WordTables":
        """The same tables with the spaces of more sites."""
        return WordTables(self.token, self.text, self.table, {**self.basis, **bases})

    def save(self, path: str | Path) -> None:
        """Write the table and the bases in half precision."""
        tensors = {f"basis/{site}": basis.half().contiguous() for site, basis in self.basis.items()}
        save_file({**tensors, "table": self.table.half().contiguous(), "token": self.token}, path)

    @classmethod
    def load(cls, path: str | Path, text: tuple[str, ...]) -> "WordTables":
        """Read what :meth:`save` wrote.

        Args:
            path: of the file.
            text: of the words.

        Raises:
            InputError: when the file is missing or damaged, or is for other words.
        """
        tensors = read_safetensors(path)
        table, token = tensors.pop("table", torch.zeros(0, 0)), tensors.pop("token", torch.zeros(0))
        if len(table) != len(text) or len(token) != len(text):
            raise InputError(f"{path} holds {len(table)} words, expected {len(text)}; it belongs to another oracle")
        found = {name.removeprefix("basis/"): value.float() for name, value in tensors.items()}
        return cls(token, text, table.float(), {site: torch.linalg.qr(value).Q for site, value in found.items()})


def unit_rows(rows: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    """Rows of length 1; zeros stay zero."""
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(_SMALLEST)


def whitened(rows: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    """Rows that vary alike along every direction, of length √width; where none varies, and zeros, they are zero.

    The map is the symmetric one, which turns each row as little as it can.
    """
    rows = rows - rows.mean(0)
    value, vector = torch.linalg.eigh(rows.T @ rows / max(1, len(rows)))
    scale = torch.where(value > _FLAT * value.max(), value.clamp_min(_SMALLEST).rsqrt(), 0.0)
    return unit_rows(rows @ (vector * scale) @ vector.T) * rows.shape[1] ** 0.5


@torch.no_grad()
def head_bases(model: Any, sites: Sequence[str]) -> dict[str, Float[Tensor, "d_model width"]]:
    """For each head among sites the space that it can write into; heads as wide as the stream are left out.

    Args:
        model: a TransformerLens model; it is run once on a few tokens.
        sites: any sites.

    Raises:
        InputError: for heads that do not add up to their write.
    """
    heads = [Site.parse(site) for site in sites if Site.parse(site).kind == "head"]
    if not heads:
        return {}
    ids = torch.arange(min(_PROBED, int(model.cfg.d_vocab)), device=model.W_U.device)[None]
    reading = read(model, ids, heads)
    found = {}
    for head in heads:
        weight = reading.sum_of_heads(int(head.layer or 0), head.part).weight[int(head.head or 0)].float().cpu()
        if weight.shape[0] < weight.shape[1]:
            found[str(head)] = torch.linalg.qr(weight.T).Q.contiguous()
    return found


def frequent_words(
    tokenizer: Any, counts: Int[Tensor, " vocab"], most: int = MOST_WORDS
) -> tuple[Int[Tensor, " words"], tuple[str, ...]]:
    """The whole words that are most frequent in some texts, in this order: token ids and texts, no two texts alike.

    Args:
        tokenizer: a Hugging Face tokenizer; ``None`` lets every token stand for itself.
        counts: how often each token occurs in the training texts.
        most: how many are taken at most; fewer read better, more say more.

    Raises:
        InputError: when no word occurs.
    """
    size = len(counts)
    vocabulary = whole_words(tokenizer, size)
    allowed = vocabulary.allowed & (counts > 0)
    if int(allowed.sum()) < _FEWEST:
        vocabulary = Vocabulary.of(tokenizer, size)
        allowed = vocabulary.allowed
    best: dict[str, int] = {}
    for token in counts.argsort(descending=True, stable=True).tolist():
        if bool(allowed[token]) and len(best) < most:
            best.setdefault(vocabulary.texts[token], token)
    if not best:
        raise InputError("no word of the vocabulary occurs in the training texts; give texts in the model's language")
    return torch.tensor(list(best.values())), tuple(best)
