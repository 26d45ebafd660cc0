"""The last residual states with components left out, by the cheapest way that is exact on this model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.attribution.beside import Copy, NotBesideError, copies_at_once, run_beside
from tl_nla.attribution.capture import state_of, watched
from tl_nla.attribution.clean_run import CleanRun
from tl_nla.attribution.components import Component
from tl_nla.attribution.exactness import all_positions_at_once, known_of, leave_out
from tl_nla.attribution.replay import chunks, replay, start_of

Group = tuple[list[int], Float[Tensor, "component batch column d_model"]]


@dataclass(frozen=True)
class Way:
    """What is wanted of components that are left out.

    Attributes:
        everywhere: leave them out at all positions at once, so that later positions see the changed earlier ones.
        columns: the columns at which their effect is wanted, among those that the run was kept at.
        chunk: how many run side by side; ``None`` to choose from the sizes.
    """

    everywhere: bool
    columns: Sequence[int]
    chunk: int | None = None


def last_states(
    model: Any, clean: CleanRun, parts: list[Component], written: Mapping[Component, Tensor], way: Way
) -> Iterator[Group]:
    """Leave out each component at each wanted column.

    In order of preference: as copies beside the clean tokens (:mod:`tl_nla.attribution.beside`), where few columns are
    wanted. All columns in one pass, where the clean past can be shown to each. Each column by a pass of its own.

    Args:
        model: the TransformerLens model.
        clean: its clean run.
        parts: what is left out.
        written: what some of them write instead.
        way: how, and where.

    Yields:
        Numbers of some of the parts, and their states behind the last block at the wanted columns. Parts come again
        where a way fails half-way; what comes last holds.
    """
    # Parts that start late share their blocks with all that started before them, so the order is by layer.
    order = sorted(range(len(parts)), key=lambda number: parts[number].last)
    columns = list(way.columns)
    if not way.everywhere and not written and few(columns, clean.length):
        if clean.columns is not None and not clean.keys:
            known_of(model)[_key(clean, True)] = False  # next time all columns are kept at once
        for cached in (True, False):
            if not may_be_beside(model, clean, cached):
                continue
            try:
                yield from _beside(model, clean, [parts[number] for number in order], order, (way, cached))
            except NotBesideError:
                known_of(model)[_key(clean, cached)] = False
            else:
                return
    if clean.columns is not None:
        raise NotBesideError(f"{type(model).__name__}: leaving out needs all columns of the clean run")
    together = not way.everywhere and len(columns) > 1 and all_positions_at_once(model, clean)
    for group in chunks(model, clean, len(parts), way.chunk):
        members = order[group]
        own = [start_of(model, clean, parts[number], written.get(parts[number])) for number in members]
        if way.everywhere:
            yield members, leave_out(model, clean, own)[:, :, columns]
        elif together:
            yield members, replay(clean, own)[:, :, columns]
        else:
            found = [leave_out(model, clean, own, position)[:, :, position] for position in columns]
            yield members, torch.stack(found, 2)


def few(columns: Sequence[int], length: int) -> bool:
    """Whether copies of single positions cost less than all positions in one pass."""
    return 2 * len(columns) <= length or len(columns) == 1


def _key(clean: CleanRun, cached: bool) -> tuple[Any, ...]:
    return "beside", cached, clean.state


def may_be_beside(model: Any, clean: CleanRun, cached: bool = True) -> bool:
    """Whether nothing rules it out yet. Hooks of the user's may count positions, which copies would shift."""
    if not clean.keys if cached else clean.columns is not None:
        return False
    return not watched(clean.state) and known_of(model).get(_key(clean, cached), True)


def may_keep_columns(model: Any, columns: Sequence[int], length: int) -> bool:
    """Whether a clean run kept at these columns alone will do to leave components out there, as far as is known."""
    state = state_of(model)
    return few(columns, length) and not watched(state) and known_of(model).get(("beside", True, state), True)


def _beside(
    model: Any, clean: CleanRun, parts: Sequence[Component], order: Sequence[int], how: tuple[Way, bool]
) -> Iterator[Group]:
    way, cached = how
    size = copies_at_once(clean, int(model.cfg.n_heads))
    together = way.chunk or max(1, size // len(way.columns))
    for first in range(0, len(order), together):
        members = list(order[first : first + together])
        starts = (start_of(model, clean, part) for part in parts[first : first + together])
        copies = [copy for start in starts for copy in Copy.of(clean, start, way.columns)]
        found = [run_beside(clean, copies[begin : begin + size], cached) for begin in range(0, len(copies), size)]
        yield members, torch.cat(found).unflatten(0, (len(members), len(way.columns))).transpose(1, 2)
