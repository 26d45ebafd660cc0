"""Words as directions: the rows of the unembedding that labels may choose from, within what a component can write."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.model.sites import Site
from tl_nla.oracle.labels.effects import Lens
from tl_nla.oracle.labels.vocabulary import Vocabulary

_SMALLEST = 1e-12
_PROBED = 8
_PIECE = 16_384
"""Columns of the unembedding that are turned into float32 at once."""


@dataclass(frozen=True)
class WordDirections:
    """Words with the direction of each, all of length 1.

    Attributes:
        token: token id of each word.
        text: how each word is written; no two alike, so that a word read in a label is one direction.
        direction: of each word, in the coordinates of ``basis``.
        basis: orthonormal columns of the space that the component writes into.
        preference: how gladly each word is named, above 0 and at most 1: its fit is multiplied by it when words
            compete.
    """

    token: Int[Tensor, " words"]
    text: tuple[str, ...]
    direction: Float[Tensor, "words width"]
    basis: Float[Tensor, "d_model width"]
    preference: Float[Tensor, " words"]

    @classmethod
    @torch.no_grad()
    def of(
        cls, lens: Lens, vocabulary: Vocabulary, basis: Float[Tensor, "d_model width"] | None = None,
        allowed: Bool[Tensor, " vocab"] | None = None, preference: Float[Tensor, " vocab"] | None = None,
    ) -> "WordDirections":  # fmt: skip
        """Take the unembedding of the allowed words.

        Of tokens that are written alike (with and without a space before them) the one with the larger preference
        stays, and the one with the larger id among equals: byte-pair vocabularies learn the one with a space as well.

        Args:
            lens: of the model.
            vocabulary: texts of its tokens; what it does not allow is never named.
            basis: of the space that is written into, see :func:`head_basis`; the whole stream when ``None``.
            allowed: tokens that may be named, such as those of whole words; all of the vocabulary's when ``None``.
            preference: see :func:`frequent_first`; all words alike when ``None``.

        Raises:
            InputError: when sizes differ, no word is left, or a preference is not above 0 and at most 1.

        Example:
            >>> words = WordDirections.of(Lens.of(model), vocabulary, head_basis(model, "blocks.3.attn.head.0"))
        """
        size = lens.weight.shape[1]
        usable = vocabulary.allowed.clone() if allowed is None else vocabulary.allowed & allowed.cpu()
        glad = torch.ones(size) if preference is None else preference.detach().float().cpu()
        if len(usable) != size or len(glad) != size:
            raise InputError(f"the unembedding has {size} tokens, allowed {len(usable)}, preference {len(glad)}")
        if not bool(((glad > 0) & (glad <= 1)).all()):
            raise InputError(f"a preference is {glad.min().item():.3g} to {glad.max().item():.3g}; allowed: 0 < p <= 1")
        device = lens.weight.device
        space = torch.eye(len(lens.weight), device=device) if basis is None else basis.float().to(device)
        # Piece by piece: a float32 copy of a half-precision unembedding would be twice as large as it is.
        projected = torch.cat([(space.T @ piece.float()).T for piece in lens.weight.split(_PIECE, 1)])
        usable &= (projected.norm(dim=1) > _SMALLEST).cpu()
        kept = _one_a_text(vocabulary.texts, usable, glad)
        if not len(kept):
            raise InputError("no word is left that may be named; allow more tokens")
        rows = projected[kept.to(projected.device)]
        rows = rows / rows.norm(dim=1, keepdim=True)
        return cls(kept, tuple(vocabulary.texts[i] for i in kept.tolist()), rows.contiguous(), space, glad[kept])

    def coordinates(self, vectors: Float[Tensor, "n d_model"]) -> Float[Tensor, "n width"]:
        """Vectors of the stream in the coordinates of the basis; what lies outside of it is left out."""
        return vectors.float() @ self.basis.to(vectors.device)


def _one_a_text(texts: tuple[str, ...], usable: Tensor, glad: Tensor) -> Int[Tensor, " words"]:
    best: dict[str, int] = {}
    values = glad.tolist()
    for token in torch.nonzero(usable).flatten().tolist():
        other = best.get(texts[token])
        if other is None or values[token] >= values[other]:
            best[texts[token]] = token
    return torch.tensor(sorted(best.values()), dtype=torch.long)


def frequent_first(counts: Int[Tensor, " vocab"], dial: float) -> Float[Tensor, " vocab"]:
    """The dial between reconstruction and readability, as a preference for words that are frequent in text.

    A token that never occurs has ``exp(-dial)``, the most frequent one 1; in between the logarithm of the count
    decides. At 0 only the fit counts. At 1 the most frequent word is named though an unseen one fits 2.7 times better.

    Args:
        counts: how often each token occurs in the training texts.
        dial: 0 or more.

    Raises:
        InputError: for a dial below 0 or negative counts.
    """
    if not dial >= 0 or bool((counts < 0).any()):
        raise InputError(f"dial is {dial}, the smallest count {int(counts.min())}; give a dial and counts of 0 or more")
    share = counts.double().log1p() / counts.double().log1p().max().clamp_min(_SMALLEST)
    return torch.exp(-dial * (1 - share)).float()


@torch.no_grad()
def head_basis(model: Any, site: Site | str) -> Float[Tensor, "d_model width"]:
    """Orthonormal columns of the space that one head can write into: its out-projection, with the norm behind it.

    Args:
        model: a TransformerLens model; one short run tells what stands behind its out-projection.
        site: the head.

    Raises:
        InputError: for a site that is no head, or heads that do not add up to their write.
    """
    head = Site.parse(site)
    if head.kind != "head":
        raise InputError(f"{head} is no head; give one such as 'blocks.0.attn.head.0'")
    ids = torch.arange(min(_PROBED, int(model.cfg.d_vocab)), device=model.W_U.device)[None]
    weight = read(model, ids, [head]).sum_of_heads(int(head.layer or 0), head.part).weight[int(head.head or 0)]
    return torch.linalg.qr(weight.float().T).Q
