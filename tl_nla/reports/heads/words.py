"""What heads read and write in words: what each always writes, what changes, and how much of it the words hold."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_nla.metrics import fve, normalise
from tl_nla.metrics.ridge import fit_ridge
from tl_nla.oracle.labels import Lens, Vocabulary, pursue
from tl_nla.oracle.labels.directions import WordDirections
from tl_nla.oracle.labels.pursuit import Pursuit
from tl_nla.oracle.pursuit_labels import signed_words
from tl_nla.reports.heads.config import HeadCardsConfig
from tl_nla.reports.heads.copying import copying_score
from tl_nla.reports.heads.rows import Rows
from tl_nla.reports.heads.texts import Texts

_DECAY = 1e-2
_OFTEN, _READ, _READ_LEAST = 8, 6, 0.02
_FEWEST_HELD = 8
_CONTEXT, _SHOWN, _LEAST_READ = 12, 0.05, 0.01


@dataclass(frozen=True)
class Wording:
    """What all heads of a model are put into words with."""

    lens: Lens
    vocabulary: Vocabulary
    texts: Texts
    config: HeadCardsConfig


@torch.no_grad()
def layer_words(wording: Wording, rows: Rows, weight: Float[Tensor, "head width d_model"]) -> list[dict[str, Any]]:
    """What is told in words of every head of a layer, as JSON holds it.

    Args:
        wording: lens, words, texts.
        rows: the heads' writes at the drawn positions.
        weight: of each head, see :func:`tl_nla.reports.heads.watch.layer_weight`.
    """
    return [_head_words(wording, rows, head, weight[head]) for head in range(len(weight))]


def _head_words(wording: Wording, rows: Rows, head: int, weight: Float[Tensor, "width d_model"]) -> dict[str, Any]:
    basis, upper = torch.linalg.qr(weight.float().T)
    writes = rows.z[:, head].to(upper) @ upper.T
    words = WordDirections.of(wording.lens, wording.vocabulary, basis)
    unit, fitted = normalise(writes), ~rows.heldout
    fitted = fitted if bool(fitted.any()) else ~fitted
    mean = unit[fitted].mean(0)
    always = signed_words(pursue(mean[None], words, wording.config.words), words)[0]
    found = pursue(unit - mean, words, wording.config.words)
    told = signed_words(found, words)
    return {
        "always": [list(always[0]), list(always[1])],
        "usual": float(mean.square().sum() / unit.square().sum(-1).mean().clamp_min(1e-12)),
        "often": _often(told), **_scored(found, words, writes, unit, mean, rows.heldout),
        **copying_score(wording.lens, wording.texts, rows, head, (writes, basis)),
        "reads": _read_tokens(wording.texts, rows, head),
        "examples": _examples(wording, rows, head, writes, told),
    }  # fmt: skip


def _scored(
    found: Pursuit, words: WordDirections, writes: Tensor, unit: Tensor, mean: Tensor, held: Bool[Tensor, " n"]
) -> dict[str, Any]:
    """FVE of a linear reader of the words on held-out documents, beside the same with the words of other writes."""
    count = int(held.sum())
    if count < _FEWEST_HELD or int((~held).sum()) < _FEWEST_HELD:
        return {"fve": None, "fve_shuffled": None, "heldout": count}
    inputs = said(found, words)
    if not bool((inputs[~held] != inputs[~held][0]).any()):  # nothing changes, or no word says it
        return {"fve": None, "fve_shuffled": None, "heldout": count}
    reader = fit_ridge(inputs[~held], unit[~held], _DECAY)
    own = inputs[held]
    scores = [fve(reader.predict(rows), writes[held], mean).item() for rows in (own, own.roll(count // 2, 0))]
    fitted = [value if value == value else None for value in scores]  # NaN where the writes do not vary
    return {"fve": fitted[0], "fve_shuffled": fitted[1], "heldout": count}


def said(found: Pursuit, words: WordDirections) -> Float[Tensor, "n width"]:
    """What a reader sees of the words: their directions with their signs, earlier words counting more, no weights."""
    ranks = torch.arange(1, found.word.shape[1] + 1, device=found.word.device)
    signs = torch.sign(found.weight) / ranks.sqrt()
    directions = words.direction[found.word.clamp_min(0)]
    return torch.einsum("nk,nkw->nw", signs, directions)


def _often(told: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[list[Any]]:
    """The words that come most often, with the share of writes that each is said of; ``−`` before suppressed ones."""
    counts = Counter(word for up, down in told for word in (*up, *(f"−{word}" for word in down)))
    return [[word, count / len(told)] for word, count in counts.most_common(_OFTEN)]


def _read_tokens(texts: Texts, rows: Rows, head: int) -> list[list[Any]]:
    """Tokens that are read more than their frequency, with their share of what is read beside the first token."""
    read: Counter[int] = Counter()
    for number, columns, shares in zip(
        rows.document.tolist(), rows.source[:, head].tolist(), rows.share[:, head].tolist(), strict=True
    ):
        for column, share in zip(columns, shares, strict=True):
            if column >= 0:
                read[texts.ids[number][column]] += share
    total = sum(read.values())
    if total < _LEAST_READ * len(rows.z):
        return []
    usual = Counter(token for ids in texts.ids for token in ids[1:])
    tokens = sum(usual.values())
    order = sorted(read, key=lambda token: usual[token] / tokens - read[token] / total)
    order = [token for token in order if read[token] / total >= max(_READ_LEAST, usual[token] / tokens)]
    return [[texts.text([token]), read[token] / total] for token in order[:_READ]]


def _examples(
    wording: Wording, rows: Rows, head: int, writes: Tensor, told: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
) -> list[dict[str, Any]]:
    """The strongest writes, one a document, in their context."""
    texts, seen = wording.texts, set[int]()
    found: list[dict[str, Any]] = []
    for row in writes.norm(dim=1).argsort(descending=True, stable=True).tolist():
        if len(found) == wording.config.examples:
            break
        number, column = int(rows.document[row]), int(rows.column[row])
        if number in seen:
            continue
        seen.add(number)
        ids = texts.ids[number]
        read = zip(rows.source[row, head].tolist(), rows.share[row, head].tolist(), strict=True)
        sources = [[texts.text([ids[place]]), column - place, share] for place, share in read
                   if place >= 0 and share >= _SHOWN]  # fmt: skip
        found.append({
            "before": texts.text(ids[max(0, column - _CONTEXT) : column]), "token": texts.text([ids[column]]),
            "sources": sources, "up": list(told[row][0]), "down": list(told[row][1]),
        })  # fmt: skip
    return found
