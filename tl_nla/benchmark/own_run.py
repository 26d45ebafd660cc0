"""What a model itself writes when it reads only the end of a text.

A reader of raw context has to learn what the model does with it; the model knows. Its own run on the context is the
strongest reader to start from. Where heads look no further back than the context reaches, it is an exact one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.oracle_texts import context_ids
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.metrics import squared_errors
from tl_nla.model.reading import read
from tl_nla.model.sites import Site
from tl_nla.model.targets import Target
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import LabelledWrites


class Place(NamedTuple):
    """Token ids, and the positions in them that are read."""

    ids: list[int]
    positions: list[int]


class Writes(NamedTuple):
    """States before the writes, and the writes."""

    before: Float[Tensor, "*rows d_model"]
    write: Float[Tensor, "*rows d_model"]


def read_ends(
    model: Any, texts: Sequence[Sequence[int]], sites: Sequence[Site | str], own: Sequence[int], batch_size: int = 128
) -> Writes:
    """Read one write at the end of each text; texts that are the same are run once.

    Args:
        model: as for :func:`read_places`.
        texts: token ids.
        sites: writes.
        own: for each text the number of the site that is wanted.
        batch_size: texts a forward pass.

    Returns:
        ``[n, d_model]``, a row for each text; float32, on the CPU.

    Raises:
        InputError: when there is no text, or one is empty.
    """
    if not texts or not all(texts):
        raise InputError("a text has no tokens, or none was given; give at least one, each with a token")
    chosen = [Site.parse(site) for site in sites]
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, ids in enumerate(texts):
        rows.setdefault(tuple(ids), []).append(row)
    different = sorted(rows, key=len)
    parts, order = [], []
    for start in range(0, len(different), batch_size):
        part = different[start : start + batch_size]
        found = read_batch(model, [Place(list(ids), [len(ids) - 1]) for ids in part], chosen)
        places = [(place, own[row]) for place, ids in enumerate(part) for row in rows[ids]]
        which = torch.tensor(places).unbind(1)
        parts.append(Writes(found.before[which], found.write[which]))
        order += [row for ids in part for row in rows[ids]]
    back = torch.tensor(order).argsort()
    return Writes(*(torch.cat(listed)[back] for listed in zip(*parts, strict=True)))


def cat_runs(
    target: Target, writes: LabelledWrites, documents: Sequence[Document], said: Sequence[str]
) -> tuple[Writes, Int[Tensor, " n"]]:
    """The model's own run on what ``cat`` is given: as many tokens up to each position as some words about it have.

    The position in the text is not told: the run starts anew behind the begin token.

    Returns:
        ``[n, d_model]``, and how many tokens of context were allowed (at the start of a text there are fewer).
    """
    encode = TextEncoder(target.tokenizer, target.model)
    budgets = [max(1, len(target.tokenizer.encode(f" {text}", add_special_tokens=False))) for text in said]
    seen = context_ids(writes, encode, documents, budgets)
    texts = [encode.behind_begin(ids).ids for ids in seen]
    own = read_ends(target.model, texts, writes.sites, writes.site.tolist())
    return own, torch.tensor(budgets)


def score_own_run(
    rows: OracleRows, target: Target, held: LabelledWrites, documents: Sequence[Document], said: Sequence[str]
) -> None:
    """Add the arm ``own_run``: what the component writes in :func:`cat_runs`; nothing is trained."""
    own, _ = cat_runs(target, held, documents, said)
    rows.errors["own_run"] = squared_errors(own.write, held.write)


def read_batch(model: Any, places: Sequence[Place], sites: Sequence[Site]) -> Writes:
    """States before and writes at the places of a few texts, in one pass."""
    width = max(len(place.ids) for place in places)
    # Right padding of a causal model needs no mask: nothing behind a position can reach it.
    tokens = torch.tensor([place.ids + place.ids[-1:] * (width - len(place.ids)) for place in places])
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, place in enumerate(places):
        mask[row, place.positions] = True
    device = next(model.parameters()).device
    reading = read(model, tokens.to(device), sites, mask.to(device))
    return Writes(
        torch.stack([reading.before(site).float().cpu() for site in sites], 1),
        torch.stack([reading[site].float().cpu() for site in sites], 1),
    )
