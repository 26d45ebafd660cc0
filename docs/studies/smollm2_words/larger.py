"""MLPs and blocks of all layers, fitted anew with 16,384 words to choose from."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2.writes import corpus_counts
from docs.studies.smollm2_words.sides import Sides, by_words, kept, scored, square
from tl_nla.data.progress import told
from tl_nla.metrics import normalise
from tl_nla.oracle.words import WordTables, fit_code
from tl_nla.oracle.words.tables import frequent_words

WORDS = 16384
SITES = tuple(f"blocks.{layer}{part}" for part in (".mlp", "") for layer in range(30))


@torch.no_grad()
def rows(sides: Sides, sites: Sequence[str] = SITES) -> Iterator[dict[str, Any]]:
    """Scores of the shipped words and of the larger choice, the component given; each fit is kept.

    Args:
        sides: the oracle and writes.
        sites: that are fitted anew, on the positions that the shipped oracle was fitted to.
    """
    counts = corpus_counts(sides.target.tokenizer, sides.corpus, int(sides.target.model.cfg.d_vocab))
    tables = WordTables.of(sides.target.model, frequent_words(sides.target.tokenizer, counts, WORDS), ())
    shipped = sides.oracle.code
    for (site,) in told([[site] for site in sites], f"fitting {len(tables.token):,} words"):
        truth = sides.held[site][1]
        base = square(normalise(truth), shipped.mean[shipped.index(site)])

        def refitted(site: str = site, truth: Tensor = truth) -> dict[str, Tensor]:
            fitted, _ = fit_code(tables, {site: sides.train[site]})
            return {f"{words}": error for words, error in by_words(fitted, 0, truth).items()}

        path = sides.keep / "larger" / f"{site}-{len(truth)}.safetensors"
        fits = {len(shipped.text): by_words(shipped, shipped.index(site), truth),
                len(tables.token): {int(words): error for words, error in kept(path, refitted).items()}}  # fmt: skip
        for size, errors in fits.items():
            for words, error in sorted(errors.items()):
                yield {"part": "larger", "site": site, "size": size, "words": words,
                       **scored([error], [base], sides.document)}  # fmt: skip
