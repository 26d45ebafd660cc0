"""Many writes of heads and attentions with nothing but the words they read: a forward pass labels them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.model.reading import Reading, read
from tl_nla.model.sites import Site
from tl_nla.oracle.capture import SHARE_FLOOR, CaptureConfig, drawn_rows
from tl_nla.oracle.labels import HeadSources, Vocabulary, head_sources


@dataclass(frozen=True)
class SourceExamples:
    """Writes and the distant words they read.

    Attributes:
        before: states that the writes are added to, float16: they are many.
        write: the writes, float16.
        words: tokens of the distant sources with a share that counts; -1 where there are fewer.
    """

    before: Float[Tensor, "n d_model"]
    write: Float[Tensor, "n d_model"]
    words: Int[Tensor, "n k"]

    def __len__(self) -> int:
        return len(self.words)


@torch.no_grad()
def source_examples(
    model: Any, tokenizer: Any, documents: Sequence[Document], sites: Sequence[Site | str],
    config: CaptureConfig | None = None, vocabulary: Vocabulary | None = None,
) -> SourceExamples:  # fmt: skip
    """Read the writes of heads and attentions at drawn positions and label their distant sources.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokenizer: its tokenizer.
        documents: the texts; longer ones are cut to the model's context.
        sites: heads and attentions; others have no sources and are left out.
        config: ``positions_per_document``, ``sources``, ``seed`` and ``batch_size`` are used.
        vocabulary: the tokens that may be named; every printable one when ``None``.

    Returns:
        One row for each document, drawn position and site; each word's token is the first of its spellings.

    Raises:
        InputError: when no head or attention is among the sites, or no document is long enough.
    """
    config = config or CaptureConfig(positions_per_document=16)
    chosen = [site for site in map(Site.parse, sites) if site.kind in ("head", "attn")]
    if not chosen:
        raise InputError("no head and no attention is among the sites; only these read other positions")
    vocabulary = vocabulary or Vocabulary.of(tokenizer, int(model.cfg.d_vocab))
    named = _merged(vocabulary)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    rows = drawn_rows(model, tokenizer, documents, config)
    for start in range(0, len(rows), config.batch_size):
        parts += _batch(model, rows[start : start + config.batch_size], chosen, config, named)
    before, write, words = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return SourceExamples(before, write, words)


def _merged(vocabulary: Vocabulary) -> Int[Tensor, " vocab"]:
    """For each token the first one of the same word, whatever its case; -1 where it may not be named."""
    first: dict[str, int] = {}
    for token, text in enumerate(vocabulary.texts):
        if text:
            first.setdefault(text.casefold(), token)
    return torch.tensor([first[text.casefold()] if text else -1 for text in vocabulary.texts])


def _batch(
    model: Any, rows: list[tuple[int, list[int], list[int]]], sites: list[Site], config: CaptureConfig, named: Tensor
) -> list[tuple[Tensor, Tensor, Tensor]]:
    width = max(len(ids) for _, ids, _ in rows)
    tokens = torch.tensor([ids + [ids[-1]] * (width - len(ids)) for _, ids, _ in rows], device=model.W_E.device)
    mask = torch.zeros(tokens.shape, dtype=torch.bool, device=tokens.device)
    for row, (_, _, places) in enumerate(rows):
        mask[row, places] = True
    reading = read(model, tokens, sites, mask)
    found: dict[str, HeadSources] = {}
    parts = []
    for site in sites:
        if site.kind not in found:
            layers = sorted({int(other.layer or 0) for other in sites if other.kind == site.kind})
            found[site.kind] = head_sources(model, tokens, None, layers, config.sources, site.kind == "attn")
        words = _words(found[site.kind], site, reading, named.to(tokens.device))
        before, write = reading.before(site), reading[site]
        parts.append((before.half().cpu(), write.half().cpu(), words.cpu()))
    return parts


def _words(found: HeadSources, site: Site, reading: Reading, named: Tensor) -> Int[Tensor, "n k"]:
    layer, head = found.layers.index(int(site.layer or 0)), int(site.head or 0)
    columns = found.distant[layer, head, reading.batch, reading.column]
    shares = found.distant_weight[layer, head, reading.batch, reading.column]
    tokens = named[reading.tokens[reading.batch[:, None], columns.clamp_min(0)]]
    return torch.where((columns >= 0) & (shares >= SHARE_FLOOR), tokens, -1)
