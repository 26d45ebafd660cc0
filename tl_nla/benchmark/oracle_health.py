"""Whether the words of a trained oracle tell anything: what is refused before anybody reads them."""

from collections.abc import Sequence

import torch

from tl_nla.benchmark.bootstrap import ratio_interval
from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.oracle_score import component_means, score_words, start_rows
from tl_nla.oracle import DiffOracle, LabelledWrites

DISTINCT = "explanation/distinct_rate"
"""Counts of the explanations that no row before had."""
_LEAST_DISTINCT, _LEAST_ROWS = 0.05, 20


def note_distinct(rows: OracleRows, explanations: Sequence[str]) -> None:
    """Keep, beside the other scores, which explanations differ from all before them."""
    known: set[str] = set()
    first = [text not in known and not known.add(text) for text in explanations]  # type: ignore[func-returns-value]
    rows.counts[DISTINCT] = torch.tensor([[float(new), 1.0] for new in first])


def complaints(rows: OracleRows) -> list[str]:
    """What is wrong with the explanations of an oracle, in sentences; nothing where they tell writes apart.

    They are useless when they rebuild writes no better than the explanations of other writes do: the 95% interval of
    the difference reaches zero. They are also useless when they are nearly all alike. And worth little when the
    component's name alone rebuilds more.

    Args:
        rows: scores with the arms ``explanation``, ``shuffled`` and ``component``.
    """
    found = []
    trained = torch.tensor([site not in rows.untrained for site in rows.sites])[rows.site]
    own, other, name = (rows.errors[arm][trained].double() for arm in ("explanation", "shuffled", "component"))
    deviation, document = rows.deviation[trained].double(), rows.document[trained]
    fve = {arm: 1 - float(error.sum() / deviation.sum()) for arm, error in
           (("explanation", own), ("shuffled", other), ("component", name))}  # fmt: skip
    gain = ratio_interval(other - own, deviation, document, generator=torch.Generator().manual_seed(0), resamples=500)
    if gain.low <= 0:
        found.append(
            f"its explanations tell nothing of a write: FVE {fve['explanation']:.2f}, with those of other writes "
            f"{fve['shuffled']:.2f} (difference {gain.value:.2f}, 95% interval from {gain.low:.2f})"
        )
    elif fve["explanation"] <= fve["component"]:
        found.append(
            f"its explanations rebuild less than the component's name does: FVE {fve['explanation']:.2f} against "
            f"{fve['component']:.2f}"
        )
    counts = rows.counts.get(DISTINCT)
    if counts is not None and len(counts) >= _LEAST_ROWS and float(counts[:, 0].mean()) < _LEAST_DISTINCT:
        found.append(f"it says {int(counts[:, 0].sum())} different explanations of {len(counts)} writes")
    return found


def check_oracle(
    oracle: DiffOracle, train: LabelledWrites, held: LabelledWrites, untrained: Sequence[str] = (), most: int = 400
) -> list[str]:
    """The complaints about an oracle, from some held-out writes.

    Args:
        oracle: trained.
        train: training writes; only their means are used.
        held: held-out writes.
        untrained: components that nothing was trained on.
        most: how many of the held-out writes are explained.

    Returns:
        See :func:`complaints`.

    Example:
        >>> check_oracle(trained.oracle, trained.data.train, trained.data.held, trained.data.untrained)
        []
    """
    drawn = torch.randperm(len(held), generator=torch.Generator().manual_seed(0))[:most].sort().values
    chosen = held.select(drawn)
    rows = start_rows(chosen, component_means(train, held.sites), untrained, 0)
    note_distinct(rows, score_words(rows, oracle, chosen))
    return complaints(rows)
