"""What each component writes when the model reads only the last tokens, head by head; nothing is trained."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2.score import kind_of, smoother, squeezed_context
from docs.studies.smollm2_words.sides import Sides, scored, square
from tl_nla.data.progress import told
from tl_nla.metrics import normalise
from tl_nla.model.reading import read

TOKENS, _BATCH = (8, 16), 18


@torch.no_grad()
def rows(sides: Sides) -> Iterator[dict[str, Any]]:
    """Scores by component for heads, by kind and layer for the others, and of all heads of a layer together."""
    code = sides.oracle.code
    sites = [site for site in code.sites if kind_of(site) != "block"]
    truth = {site: normalise(sides.held[site][1]) for site in sites}
    base = {site: square(truth[site], code.mean[code.index(site)]) for site in sites}
    weights = smoother(*squeezed_context(sides.target.model, sides.train, sides.held))
    for tokens in TOKENS:
        found = own_writes(sides, sites, tokens)
        error = {site: square(truth[site], normalise(found[site])) for site in sites}
        yield from _rows(f"own run, {tokens} tokens", error, base, sides.document)
    context = {}
    for site in sites:
        wanted = normalise(sides.train[site][1])
        context[site] = square(truth[site], wanted.mean(0) + weights @ (wanted - wanted.mean(0)))
    yield from _rows("context, 16 tokens", context, base, sides.document)


def _rows(arm: str, error: dict[str, Tensor], base: dict[str, Tensor], document: Tensor) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, int], list[str]] = {}
    for site in error:
        groups.setdefault((kind_of(site), int(site.split(".")[1])), []).append(site)
    for (kind, layer), own in groups.items():
        yield {"part": "own_run", "arm": arm, "kind": kind, "layer": layer,
               **scored([error[site] for site in own], [base[site] for site in own], document)}  # fmt: skip
        for site in own if kind == "head" else ():
            yield {"part": "own_run", "arm": arm, "kind": "one head", "layer": layer, "site": site,
                   "fve": round(1 - float(error[site].sum() / base[site].sum()), 4)}  # fmt: skip


def own_writes(sides: Sides, sites: list[str], tokens: int) -> dict[str, Tensor]:
    """Writes at the end of the last tokens behind the begin token."""
    seen = sides.held.rows.context[:, :tokens].flip(1)
    begin = torch.full((len(seen), 1), int(sides.target.tokenizer.bos_token_id))
    parts: dict[str, list[Tensor]] = {site: [] for site in sites}
    for ids in told(torch.cat([begin, seen], 1).split(_BATCH), f"running the model on {tokens} tokens"):
        last = torch.zeros(ids.shape, dtype=torch.bool)
        last[:, -1] = True
        reading = read(sides.target.model, ids, sites, last)
        for site in sites:
            parts[site].append(reading[site].float())
    return {site: torch.cat(rows) for site, rows in parts.items()}
