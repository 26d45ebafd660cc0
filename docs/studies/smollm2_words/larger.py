"""MLPs and blocks of all layers: the shipped words, and a fit that has as few words to choose from as heads."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2_words.sides import Sides, by_words, kept, scored, square
from tl_nla.data.progress import told
from tl_nla.metrics import normalise
from tl_nla.oracle.words import WordTables, fit_code

FEWER = 4096
SITES = tuple(f"blocks.{layer}{part}" for part in (".mlp", "") for layer in range(30))


@torch.no_grad()
def rows(sides: Sides, sites: Sequence[str] = SITES) -> Iterator[dict[str, Any]]:
    """Scores of the fit to fewer words and of the shipped words, the component given; each fit's errors are kept.

    Args:
        sides: the oracle and writes.
        sites: that are fitted anew, on the positions that the shipped oracle was fitted to.
    """
    shipped = sides.oracle.code
    few = shipped.tables.first(FEWER)
    tables = WordTables(few.token, few.text, few.table, {})
    for (site,) in told([[site] for site in sites], f"fitting {len(tables.token):,} words"):
        number, truth = shipped.index(site), sides.held[site][1]
        base = square(normalise(truth), shipped.mean[number])

        def refitted(site: str = site, truth: Tensor = truth) -> dict[str, Tensor]:
            fitted, _ = fit_code(tables, {site: sides.train[site]})
            return {f"{words}": error for words, error in by_words(fitted, 0, truth).items()}

        path = sides.keep / "fewer" / f"{site}-{len(truth)}.safetensors"
        fits = {len(tables.token): {int(words): error for words, error in kept(path, refitted).items()},
                int(shipped.choice[number]): by_words(shipped, number, truth)}  # fmt: skip
        for size, errors in fits.items():
            for words, error in sorted(errors.items()):
                yield {"part": "larger", "site": site, "size": size, "words": words,
                       **scored([error], [base], sides.document)}  # fmt: skip
