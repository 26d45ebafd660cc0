"""MLPs and blocks of all layers: the shipped words, and a fit that has as few words to choose from as heads."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from docs.studies.lines import draws
from docs.studies.smollm2_words.sides import LENGTHS, Sides, by_words, kept, scored, square
from tl_nla.benchmark.bootstrap import ratio_interval
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
    apart: dict[str, list[Tensor]] = {}
    bases: dict[str, list[Tensor]] = {}
    for (site,) in told([[site] for site in sites], f"fitting {len(tables.token):,} words"):
        number, truth = shipped.index(site), sides.held[site][1]
        base = square(normalise(truth), shipped.mean[number])

        def refitted(site: str = site, truth: Tensor = truth) -> dict[str, Tensor]:
            fitted, _ = fit_code(tables, {site: sides.train[site]})
            return {f"{words}": error for words, error in by_words(fitted, 0, truth).items()}

        path = sides.keep / "fewer" / f"{site}-{len(truth)}.safetensors"
        fewer = {int(words): error for words, error in kept(path, refitted).items()}
        own = by_words(shipped, number, truth)
        for size, errors in ((len(tables.token), fewer), (int(shipped.choice[number]), own)):
            for words, error in sorted(errors.items()):
                yield {"part": "larger", "site": site, "size": size, "words": words,
                       **scored([error], [base], sides.document)}  # fmt: skip
        kind = "mlp" if site.endswith(".mlp") else "block"
        apart.setdefault(kind, []).append(fewer[max(LENGTHS)] - own[max(LENGTHS)])
        bases.setdefault(kind, []).append(base)
    for kind, parts in apart.items():
        each = sides.document.repeat(len(parts))
        gained = ratio_interval(torch.cat(parts), torch.cat(bases[kind]), each, generator=draws(), resamples=1000)
        yield {"part": "larger", "site": f"all of kind {kind}", "words": max(LENGTHS), "gained": round(gained.value, 4),
               "low": round(gained.low, 4), "high": round(gained.high, 4)}  # fmt: skip
