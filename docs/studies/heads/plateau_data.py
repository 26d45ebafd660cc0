"""What the network of :mod:`docs.studies.heads.plateau` is trained on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from docs.studies.heads.write_network import Evidence
from tl_nla.benchmark.oracle_texts import readable
from tl_nla.benchmark.own_run import Place, Writes, cat_runs, read_batch
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.model.sites import Site
from tl_nla.model.targets import Target
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import CaptureConfig, DiffOracle, LabelledWrites
from tl_nla.oracle.capture import drawn_rows


class ContextRows(NamedTuple):
    """Own runs on raw contexts, for several components at once.

    Attributes:
        own: what the model does when it reads only the context.
        length: tokens of each context.
        site: number of each component.
        truth: the writes when it reads the whole text.
    """

    own: Writes
    length: Int[Tensor, " n"]
    site: Int[Tensor, " sites"]
    truth: Float[Tensor, "n sites d_model"]


class PlateauRows:
    """Rows of raw context alone, then those with words, repeated until there are about as many.

    Every other repetition hides the context, so that words alone are read, too.

    Args:
        contexts: of raw contexts alone.
        spoken: context and words of other rows.
        written: the writes of those.
    """

    def __init__(self, contexts: ContextRows, spoken: Evidence, written: Float[Tensor, "m d_model"]) -> None:
        self.contexts, self.spoken, self.written = contexts, spoken, written
        self.silent = len(contexts.length) * len(contexts.site)
        self.repeats = 2 * max(1, round(self.silent / (2 * len(spoken))))

    def __len__(self) -> int:
        return self.silent + self.repeats * len(self.spoken)

    def batch(self, rows: Int[Tensor, " n"]) -> tuple[Evidence, Float[Tensor, "n d_model"]]:
        """Evidence and writes of some rows, those without words first."""
        own, length, site, truth = self.contexts
        place, which = rows[rows < self.silent] // len(site), rows[rows < self.silent] % len(site)
        write = own.write[place, which]
        silent = Evidence(
            own.before[place, which], write, torch.zeros_like(write), site[which], length[place],
            torch.ones(len(write), dtype=torch.bool), torch.zeros(len(write), dtype=torch.bool),
        )  # fmt: skip
        told = rows[rows >= self.silent] - self.silent
        spoken = self.spoken.select(told % len(self.spoken))
        shown = spoken.has_context & (told // len(self.spoken) % 2 == 0)
        written = torch.cat([truth[place, which], self.written[told % len(self.spoken)]])
        return Evidence.join(silent, replace(spoken, has_context=shown)), written


def spoken_rows(
    target: Target, oracle: DiffOracle, writes: LabelledWrites, documents: Sequence[Document], said: Sequence[str]
) -> tuple[Evidence, Float[Tensor, "n d_model"]]:
    """Words about writes, read back, beside the model's own run on as many tokens of raw context.

    Args:
        target: the model.
        oracle: whose reconstructor reads the words.
        writes: the rows.
        documents: what their ``document`` counts in.
        said: words about each.

    Returns:
        The evidence, and the writes.
    """
    own, length = cat_runs(target, writes, documents, said)
    told = oracle.reconstruct(readable(oracle.reconstructor, said), refined=False)
    known = torch.ones(len(writes), dtype=torch.bool)
    return Evidence(*own, told, writes.site, length, known, known.clone()), writes.write


def context_rows(
    target: Target, documents: Sequence[Document], sites: Sequence[str], numbers: Int[Tensor, " sites"],
    lengths: Int[Tensor, " m"], positions: int, seed: int,
) -> ContextRows:  # fmt: skip
    """Own runs on raw contexts that are as long as some words or other.

    Args:
        target: the model.
        documents: the texts.
        sites: components.
        numbers: of the components in the evidence.
        lengths: to draw from.
        positions: of each document.
        seed: of positions and lengths.
    """
    begin = len(TextEncoder(target.tokenizer, target.model).begin)
    drawn = drawn_rows(target.model, target.tokenizer, documents, CaptureConfig(positions, seed=seed))
    whole = [Place(ids, places) for _, ids, places in drawn]
    count = sum(len(place.positions) for place in whole)
    draws = torch.randint(len(lengths), (count,), generator=torch.Generator().manual_seed(seed))
    length = lengths[draws]
    ends = [(place.ids, position + 1) for place in whole for position in place.positions]
    cut = [ids[:begin] + ids[max(begin, end - size) : end]
           for (ids, end), size in zip(ends, length.tolist(), strict=True)]  # fmt: skip
    truth = read_places(target.model, whole, sites).write
    own = read_places(target.model, [Place(ids, [len(ids) - 1]) for ids in cut], sites)
    return ContextRows(own, length, numbers, truth)


def read_places(model: Any, places: Sequence[Place], sites: Sequence[Site | str], batch_size: int = 128) -> Writes:
    """Read writes at chosen positions of many texts, those of like length together.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        places: texts with positions in rising order.
        sites: writes.
        batch_size: texts a forward pass.

    Returns:
        ``[n, sites, d_model]``, a row for each position, text by text; float32, on the CPU.

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
        found = read_batch(model, [places[index] for index in part], chosen)
        sizes = [len(places[index].positions) for index in part]
        for index, states, writes in zip(part, found.before.split(sizes), found.write.split(sizes), strict=True):
            before[index], write[index] = states, writes
    return Writes(torch.cat(before), torch.cat(write))
