"""How much of where a head looked its write still tells: a linear probe from (state, write) to the words it read."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.oracle_score import source_recalls
from tl_nla.metrics import normalise
from tl_nla.metrics.ridge import fit_ridge
from tl_nla.oracle import LabelledWrites

_DECAY = 1e-2
_NAMED = 3


def score_source_probe(rows: OracleRows, train: LabelledWrites, held: LabelledWrites) -> None:
    """Add the ``probe`` of the question about distant sources."""
    named = probe_distant_sources(train, held)
    places = sorted(named)
    if not places:
        return
    rows.counts |= source_recalls("probe", [named[row] for row in places], held, places)


def probe_distant_sources(train: LabelledWrites, held: LabelledWrites) -> dict[int, list[str]]:
    """The distant sources that a ridge regression names for each held-out row whose component has any.

    One regression a component, from the normalised state before and the normalised write to indicators of the words
    that were distant sources in training.

    Returns:
        Row of ``held`` -> the three words with the largest outputs.
    """
    named: dict[int, list[str]] = {}
    for place, site in enumerate(held.sites):
        rows = torch.nonzero(held.site == place).flatten()
        if site not in train.sites or not len(rows) or "sources" not in held.answers[int(rows[0])]:
            continue
        known = torch.nonzero(train.site == train.sites.index(site)).flatten()
        words = [train.answers[row]["sources"].tokens for row in known.tolist()]
        vocabulary = sorted({word for row in words for word in row})
        if not vocabulary:
            continue
        outputs = fit_ridge(_inputs(train, known), _indicators(words, vocabulary), _DECAY).predict(_inputs(held, rows))
        best = outputs.topk(min(_NAMED, len(vocabulary)), dim=1).indices.tolist()
        named |= {row: [vocabulary[i] for i in found] for row, found in zip(rows.tolist(), best, strict=True)}
    return named


def _inputs(writes: LabelledWrites, rows: Tensor) -> Float[Tensor, "n features"]:
    return torch.cat([normalise(writes.before[rows]), normalise(writes.write[rows])], 1).double()


def _indicators(words: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> Float[Tensor, "n words"]:
    places = {word: number for number, word in enumerate(vocabulary)}
    table = torch.zeros(len(words), len(vocabulary), dtype=torch.float64)
    for row, listed in enumerate(words):
        for word in listed:
            table[row, places[word]] = 1.0
    return table
