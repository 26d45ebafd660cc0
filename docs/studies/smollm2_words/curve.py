"""Words chosen jointly against the strongest ones and the shipped oracle's, at 4, 8 and 16 words, in every layer."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2.score import smoother, squeezed_context
from docs.studies.smollm2.words import TwoLists, first_words, seen, strongest, two_lists
from docs.studies.smollm2_words.sides import LENGTHS, Sides, by_words, kept, one_head_a_layer, scored, square
from tl_nla.benchmark.bootstrap import ratio_interval
from tl_nla.data.progress import told
from tl_nla.metrics import normalise
from tl_nla.metrics.ridge import fit_ridge
from tl_nla.oracle.labels import pursue
from tl_nla.oracle.labels.directions import WordDirections
from tl_nla.oracle.words import WordCode
from tl_nla.oracle.words.tables import unit_rows

_DECAY = 0.1
_AGAINST = {"oracle": "pursuit", "oracle, any norm": "pursuit", "pursuit": "topk"}


@torch.no_grad()
def rows(sides: Sides) -> Iterator[dict[str, Any]]:
    """Scores of every arm at one head of each layer, then of all heads together."""
    sites = one_head_a_layer(len(sides.held.out), sides.held.out[0].shape[1] // sides.held.width)
    known, asked = squeezed_context(sides.target.model, sides.train, sides.held)
    contexts = {words: smoother(*(side[:, : words * side.shape[1] // 16] for side in (known, asked)))
                for words in LENGTHS}  # fmt: skip
    every = {}
    for (site,) in told([[site] for site in sites], "reading words of heads"):

        def errors(site: str = site) -> dict[str, Tensor]:
            writes = sides.train[site][1], sides.held[site][1]
            return head_errors(sides.oracle.code, site, writes, contexts)

        every[site] = kept(sides.keep / "curve" / f"{site}-{len(sides.document)}.safetensors", errors)
        yield from _scores({site: every[site]}, sides.document, site)
    yield from _scores(every, sides.document, "all")


def _scores(found_at: dict[str, dict[str, Tensor]], document: Tensor, site: str) -> Iterator[dict[str, Any]]:
    bases = [errors["0 strict"] for errors in found_at.values()]
    every = document.repeat(len(found_at))
    for name in next(iter(found_at.values())):
        words, _, arm = name.partition(" ")
        if words == "0":
            continue
        row = {"part": "curve", "site": site, "arm": arm, "words": int(words)}
        yield row | scored([errors[name] for errors in found_at.values()], bases, document)
        if arm in _AGAINST:
            # Of the same rows, so that the interval is that of the difference.
            other = _AGAINST[arm]
            apart = torch.cat([errors[f"{words} {other}"] - errors[name] for errors in found_at.values()])
            found = ratio_interval(apart, torch.cat(bases), every, generator=torch.Generator().manual_seed(0))
            numbers = {"fve": found.value, "low": found.low, "high": found.high}
            yield row | {"arm": f"{arm} − {other}"} | {key: round(value, 4) for key, value in numbers.items()}


def head_errors(
    code: WordCode, site: str, writes: tuple[Tensor, Tensor], contexts: dict[int, Tensor]
) -> dict[str, Tensor]:
    """Squared errors of held-out rows by words and arm, and under ``0 strict`` their distance from the head's mean.

    Args:
        code: the shipped one.
        site: the head.
        writes: of training documents and of held-out ones.
        contexts: by length, ridge regression on the last tokens as weights of training targets.
    """
    number, basis = code.index(site), code.tables.basis[site]
    mean = code.mean[number]
    tables = code.tables.first(int(code.choice[number]))
    rows_of = tables.table @ basis
    direction = unit_rows(rows_of)
    words = WordDirections(tables.token, tables.text, direction, basis, torch.ones(len(direction)))
    write = writes[1]
    beside = [(normalise(each) - mean) @ basis for each in writes]
    chosen = [pursue(each, words, max(LENGTHS)) for each in beside]
    most = [strongest(each, direction, rows_of.norm(dim=1), max(LENGTHS)) for each in beside]
    other = torch.randperm(len(write), generator=torch.Generator().manual_seed(2))
    found = {"0 strict": square(normalise(write), mean)}
    errors = by_words(code, number, write)
    told_words, level = code.choose(number, write, max(LENGTHS))
    for count in LENGTHS:
        labels = {"topk": [each.shorter(count // 2) for each in most],
                  "pursuit": [two_lists(*first_words(rows, one.word, words, count))
                              for rows, one in zip(beside, chosen, strict=True)]}  # fmt: skip
        for arm, pair in labels.items():
            right, shuffled = _read(pair, direction, beside[0], other)
            found[f"{count} {arm}"] = square(beside[1], right)
            found[f"{count} {arm}, shuffled"] = square(beside[1], shuffled)
        found[f"{count} oracle"] = errors[count]
        found[f"{count} oracle, any norm"] = square(
            normalise(write), code.rebuild(number, told_words[:, :count], level)
        )
        rebuilt = normalise(code.rebuild(number, told_words[other, :count], level[other]))
        found[f"{count} oracle, shuffled"] = square(normalise(write), rebuilt)
        middle = beside[0].mean(0)
        found[f"{count} context"] = square(beside[1], middle + contexts[count] @ (beside[0] - middle))
    return found


def _read(pair: list[TwoLists], direction: Tensor, wanted: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """What ridge regression makes of held-out labels, and of those of other rows."""
    known, asked = (seen(label, direction) for label in pair)
    reader = fit_ridge(known, wanted, _DECAY)
    return reader.predict(asked), reader.predict(asked[other])
