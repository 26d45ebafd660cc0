"""Heads whose writes no fit saw: what a reader made from other heads, or from weights alone, gives there."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2_words.sides import Sides, by_words, one_head_a_layer, scored, square
from tl_nla.data.progress import listening, told
from tl_nla.metrics import normalise
from tl_nla.model.loading import load_causal_lm
from tl_nla.oracle.words import WordCode, WordTables, fit_code
from tl_nla.smollm2.weights import find_weights

_MOST = 12
"""Positions of a document that a pretended write is the average of, at most."""


@torch.no_grad()
def rows(sides: Sides) -> Iterator[dict[str, Any]]:
    """Scores of one head of each layer, all together, by reader."""
    code = sides.oracle.code
    sites = one_head_a_layer(len(sides.held.out), sides.held.out[0].shape[1] // sides.held.width)
    model = load_causal_lm(find_weights(), torch.float32).eval()
    errors: dict[tuple[str, int], list[Tensor]] = {}
    bases = []
    for (site,) in told([[site] for site in sites], "reading heads that no fit saw"):
        number, write = code.index(site), sides.held[site][1]
        bases.append(square(normalise(write), code.mean[number]))
        shared = shared_shape(code, site)
        zero = torch.zeros_like(code.mean[number])
        codes = {
            "fitted to the head": (code, number),
            "its own mean, the rest from other heads": (_made(code, site, code.mean[number], shared), 0),
            "from other heads": (_made(code, site, zero, shared), 0),
            "from the head's weights": (from_weights(sides, model, site), 0),
            "another head's fit": (_carried(code, site), 0),
        }
        for arm, (made, place) in codes.items():
            for words, error in by_words(made, place, write).items():
                errors.setdefault((arm, words), []).append(error)
    for (arm, words), found in errors.items():
        yield {"part": "unseen", "arm": arm, "words": words, "heads": len(found),
               **scored(found, bases, sides.document)}  # fmt: skip


def shared_shape(code: WordCode, site: str) -> Tensor:
    """One factor for each place: the average over all other heads and their directions, alike for every direction."""
    heads = [one for one in code.sites if ".head." in one and one != site]
    factor = torch.stack([code.shape[one].mean(1) for one in heads]).mean(0)
    return factor[:, None].expand(-1, code.shape[site].shape[1]).contiguous()


def _made(code: WordCode, site: str, mean: Tensor, shape: Tensor) -> WordCode:
    """A code of one head, without levels of deviation; norms are not read here."""
    near = 1.0 if not bool(mean.any()) else float(code.level[code.index(site)].mean())
    none = torch.full((1, code.edge.shape[1]), torch.inf)
    level = torch.full((1, code.level.shape[1]), near)
    columns = {name: getattr(code, name)[code.index(site)][None] for name in ("norm", "choice")}
    return replace(code, sites=(site,), mean=mean[None], edge=none, level=level, **columns, shape={site: shape})


def _carried(code: WordCode, site: str) -> WordCode:
    """The next head's parts as they are, in the space of this head."""
    start, _, head = site.rpartition(".")
    other = code.index(f"{start}.{int(head) + (1 if int(head) == 0 else -1)}")
    basis, parts = code.tables.basis[site], code.sites[other]
    mean = (code.mean[other] @ basis) @ basis.T
    columns = {name: getattr(code, name)[other][None] for name in ("edge", "level", "norm", "choice")}
    return replace(code, sites=(site,), mean=mean[None], **columns, shape={site: code.shape[parts]})


def from_weights(sides: Sides, model: Any, site: str) -> WordCode:
    """A code fitted to what the head's weights make of training states, whatever it attends to.

    A pretended write is the average over some positions of a document. The head's attention is never read.
    """
    _, layer, _, _, head = site.split(".")
    block, width = model.model.layers[int(layer)], sides.held.width
    states, document = sides.train.rows.before[:, int(layer)].float(), sides.train.rows.document
    heads = sides.train.out[0].shape[1] // width
    values = block.self_attn.v_proj(block.input_layernorm(states)).view(len(states), -1, width)
    own = values[:, int(head) * values.shape[1] // heads]
    out = sides.train.out[int(layer)][:, int(head) * width : (int(head) + 1) * width]
    generator = torch.Generator().manual_seed(0)
    mixed = own.clone()
    for name in document.unique().tolist():
        places = torch.nonzero(document == name).flatten()
        for place in places.tolist():
            count = int(torch.randint(1, _MOST + 1, (1,), generator=generator))
            mixed[place] = own[places[torch.randperm(len(places), generator=generator)[:count]]].mean(0)
    whole = sides.oracle.code.tables
    tables = WordTables(whole.token, whole.text, whole.table, {site: whole.basis[site]})
    with listening(None):
        return fit_code(tables, {site: (states, mixed @ out.T)})[0]
