"""What telling the component costs: words of attentions, MLPs and blocks, with the component told or given."""

from collections.abc import Iterator
from typing import Any

import torch

from docs.studies.smollm2.score import kind_of
from docs.studies.smollm2_words.sides import LENGTHS, Sides, by_words, scored, square
from tl_nla.data.progress import told
from tl_nla.metrics import normalise


@torch.no_grad()
def rows(sides: Sides) -> Iterator[dict[str, Any]]:
    """Scores by component: FVE at each length when it is given and when it is told, and how often it is told right."""
    code = sides.oracle.code
    sites = [site for site in code.sites if kind_of(site) != "head"]
    for (site,) in told([[site] for site in sites], "telling components"):
        number, (before, write) = code.index(site), sides.held[site]
        base = square(normalise(write), code.mean[number])
        found = code.tell_component(before, write)
        given = by_words(code, number, write)
        taken = {words: error.clone() for words, error in given.items()}
        for other in found[found != number].unique().tolist():
            rows_of = found == other
            for words, error in by_words(code, other, write[rows_of]).items():
                taken[words][rows_of] = error
        right = round(float((found == number).double().mean()), 4)
        for words in LENGTHS:
            for arm, errors in (("given", given), ("told", taken)):
                yield {"part": "component", "arm": arm, "kind": kind_of(site), "layer": int(site.split(".")[1]),
                       "words": words, "right": right, **scored([errors[words]], [base], sides.document)}  # fmt: skip
