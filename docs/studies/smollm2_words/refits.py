"""The closed-form fit repeated: on other draws of training positions, on fewer of them, and with more words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2.fit import EVERY, site_writes
from docs.studies.smollm2.writes import AllWrites, corpus_counts
from docs.studies.smollm2_words.sides import FIXED, Sides, by_words, kept, one_head_a_layer, scored, square
from tl_nla.data.progress import listening, told
from tl_nla.metrics import normalise
from tl_nla.oracle.words import FitConfig, WordTables, fit_code
from tl_nla.oracle.words.tables import frequent_words

SEEDS, SIZES = 3, ((25, 12), (50, 12), (100, 12), (215, 12), (430, 12), (430, 24))
"""Draws; training documents and positions of each. The last size is all that is kept, so it has one draw."""
LAYERS, VOCABULARY = (15,), 4096
"""Of the fits with more of something, and the words that all fits to draws choose from, those of MLPs, too."""


@dataclass(frozen=True)
class Choice:
    """A fit of MLPs that is larger than the first one.

    Attributes:
        vocabulary: words to choose from.
        rows: writes that words are chosen for.
        every: one of so many kept training positions is used.
    """

    vocabulary: int = VOCABULARY
    rows: int = 600
    every: int = EVERY


CHOICES = {
    "4,096 words": Choice(), "16,384 words": Choice(vocabulary=16384),
    "words chosen for 2,400 writes": Choice(rows=2400), "10,320 positions": Choice(every=1),
}  # fmt: skip


def drawn_rows(document: Tensor, documents: int, each: int, seed: int) -> Tensor:
    """Some positions of some documents, drawn.

    Args:
        document: of each row; all documents have as many rows.
        documents: how many are drawn.
        each: positions of a document.
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    names = document.unique()
    chosen = names[torch.randperm(len(names), generator=generator)[:documents]]
    places = []
    for name in chosen.sort().values.tolist():
        own = torch.nonzero(document == name).flatten()
        places.append(own[torch.randperm(len(own), generator=generator)[:each]])
    return torch.cat(places).sort().values


@torch.no_grad()
def draw_rows(sides: Sides) -> Iterator[dict[str, Any]]:
    """Scores by seed and number of training positions, each kind of component together."""
    every = site_writes(AllWrites.load(sides.keep / "train.safetensors"), sides.target)
    heads = one_head_a_layer(len(every.out), every.out[0].shape[1] // every.width)[::3]
    groups = {"head": heads, **{kind: [f"blocks.{layer}.{kind}" for layer in FIXED] for kind in ("attn", "mlp")}}
    whole = sides.oracle.code.tables.first(VOCABULARY)
    tables = WordTables(whole.token, whole.text, whole.table, {site: whole.basis[site] for site in heads})
    sizes = [(size, seed) for size in SIZES for seed in range(1 if size == SIZES[-1] else SEEDS)]
    cells = {(size[0] * size[1], seed): drawn_rows(every.rows.document, *size, seed) for size, seed in sizes}
    sites = [(kind, site) for kind, own in groups.items() for site in own]
    code = sides.oracle.code
    errors: dict[tuple[str, str], list[Tensor]] = {}
    bases: dict[str, list[Tensor]] = {kind: [] for kind in groups}
    for ((kind, site),) in told([[pair] for pair in sites], "fitting words anew"):

        def refitted(site: str = site) -> dict[str, Tensor]:
            return refit_errors(tables, site, every[site], cells, sides.held[site][1])

        bases[kind].append(square(normalise(sides.held[site][1]), code.mean[code.index(site)]))
        path = sides.keep / "draws" / f"{site}-{len(cells)}-{len(sides.document)}.safetensors"
        for name, error in kept(path, refitted).items():
            errors.setdefault((kind, name), []).append(error)
    for (kind, name), found in errors.items():
        positions, seed, words = map(int, name.split())
        yield {"part": "draws", "kind": kind, "positions": positions, "seed": seed, "words": words,
               "components": len(found), **scored(found, bases[kind], sides.document)}  # fmt: skip


def refit_errors(
    tables: WordTables, site: str, known: tuple[Tensor, Tensor], cells: Mapping[tuple[int, int], Tensor], asked: Tensor
) -> dict[str, Tensor]:
    """Squared errors of one component's held-out writes after a fit to each draw.

    Args:
        tables: directions of words.
        site: the component.
        known: states before and writes of all training positions.
        cells: by number of positions and seed, which of them are drawn.
        asked: held-out writes.

    Returns:
        By ``positions seed words``.
    """
    before, write = known
    found = {}
    for (positions, seed), chosen in cells.items():
        with listening(None):  # the steps of a single fit are of no interest
            code, _ = fit_code(tables, {site: (before[chosen], write[chosen])})
        found |= {f"{positions} {seed} {words}": error for words, error in by_words(code, 0, asked).items()}
    return found


@torch.no_grad()
def more_rows(sides: Sides, layers: Sequence[int] = LAYERS) -> Iterator[dict[str, Any]]:
    """Scores of MLPs fitted with more of something."""
    counts = corpus_counts(sides.target.tokenizer, sides.corpus, int(sides.target.model.cfg.d_vocab))
    code = sides.oracle.code
    whole = site_writes(AllWrites.load(sides.keep / "train.safetensors"), sides.target)
    for name, choice in CHOICES.items():
        words_of = frequent_words(sides.target.tokenizer, counts, choice.vocabulary)
        tables = WordTables.of(sides.target.model, words_of, ())
        for layer in layers:
            site = f"blocks.{layer}.mlp"
            before, write = (side[:: choice.every] for side in whole[site])
            fitted, _ = fit_code(tables, {site: (before, write)}, FitConfig(rows=choice.rows))
            truth = sides.held[site][1]
            base = square(normalise(truth), code.mean[code.index(site)])
            for words, error in by_words(fitted, 0, truth).items():
                yield {"part": "more", "site": site, "fit": name, "words": words,
                       **scored([error], [base], sides.document)}  # fmt: skip
