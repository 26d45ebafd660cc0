"""What a model itself writes when it reads only the end of a text.

A reader of raw context has to learn what the model does with it; the model knows. Its own run on the context is the
strongest reader to start from, and where heads look no further back than the context reaches, an exact one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.reading import read
from tl_nla.sites import Site


class Place(NamedTuple):
    """Token ids, and the positions in them that are read."""

    ids: list[int]
    positions: list[int]


class Writes(NamedTuple):
    """States before the writes, and the writes."""

    before: Float[Tensor, "n sites d_model"]
    write: Float[Tensor, "n sites d_model"]


def read_places(
    model: Any, places: Sequence[Place], sites: Sequence[Site | str], own: Sequence[int] | None = None,
    batch_size: int = 128,
) -> Writes:  # fmt: skip
    """Read writes at chosen positions of many texts, those of like length together.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        places: texts with positions in rising order.
        sites: writes.
        own: for each text the number of the only site that is wanted; all when ``None``.
        batch_size: texts a forward pass.

    Returns:
        A row for each position, text by text (with a single site where ``own`` is given); float32, on the CPU.

    Raises:
        InputError: when there is no place, or a place has no position or one that its text lacks.
    """
    for place in places:
        if not place.positions or not 0 <= min(place.positions) <= max(place.positions) < len(place.ids):
            raise InputError(f"positions are {place.positions} of {len(place.ids)} tokens; give some that are there")
    if not places:
        raise InputError("no places were given; give at least one text with a position")
    chosen = [Site.parse(site) for site in sites]
    order = sorted(range(len(places)), key=lambda index: len(places[index].ids))
    before: list[Tensor] = [torch.empty(0)] * len(places)
    write = list(before)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        found = _read_batch(model, [places[index] for index in part], chosen)
        sizes = [len(places[index].positions) for index in part]
        for index, states, writes in zip(part, found.before.split(sizes), found.write.split(sizes), strict=True):
            kept = slice(None) if own is None else slice(own[index], own[index] + 1)
            before[index], write[index] = states[:, kept].clone(), writes[:, kept].clone()
    return Writes(torch.cat(before), torch.cat(write))


def _read_batch(model: Any, places: Sequence[Place], sites: Sequence[Site]) -> Writes:
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
