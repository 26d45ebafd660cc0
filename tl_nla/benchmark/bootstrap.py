"""Bootstrap intervals clustered by document, and by seed around that.

Positions of one document share facts and words, so they are no independent draws: whole documents are drawn again. With
several seeds (trained models), seeds are drawn as well. The same drawn documents are used for all of them, because all
seeds are usually scored on the same held-out documents.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A statistic with its interval.

    Attributes:
        value: the statistic on the data as they are (the mean over seeds when there are several).
        low: lower end of the percentile interval.
        high: upper end.
        n: number of rows (items, not documents).
    """

    value: float
    low: float
    high: float
    n: int


def ratio_interval(
    numerator: Float[Tensor, " n"],
    denominator: Float[Tensor, " n"],
    documents: Int[Tensor, " n"],
    seeds: Int[Tensor, " n"] | None = None,
    *,
    generator: torch.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of ``Σ numerator / Σ denominator``: means, precision, recall, and FVE through `fve_interval`.

    Args:
        numerator: one term a row.
        denominator: one term a row; all ones for a mean.
        documents: the document of each row, any integers.
        seeds: the seed (trained model) of each row, any integers; one seed when None.
        generator: source of the draws, on the CPU.
        resamples: number of bootstrap draws.
        level: coverage.

    Returns:
        The mean over seeds of each seed's ratio, with its percentile interval. A single document gives a point.

    Raises:
        InputError: when there are no rows, lengths differ, values are not finite or a seed's denominator sums to 0.
    """
    rows = {"numerator": numerator, "denominator": denominator, "documents": documents}
    if len({len(rows_) for rows_ in rows.values()} | ({len(seeds)} if seeds is not None else set())) != 1:
        raise InputError(f"rows differ in length: { ({name: len(r) for name, r in rows.items()}) }")
    if not len(numerator) or not 0 < level < 1 or resamples < 1:
        raise InputError(f"need rows, level in (0, 1), resamples >= 1; got {len(numerator)}, {level}, {resamples}")
    tops, bottoms = (_sums(x, documents, seeds) for x in (numerator, denominator))
    if not (torch.isfinite(tops).all() and torch.isfinite(bottoms).all()):
        raise InputError("terms hold NaN or infinite values: leave such rows out before")
    if not (bottoms.sum(1) != 0).all():
        raise InputError("the denominator sums to 0 for a seed: nothing varies or nothing was counted")
    n_seeds, n_documents = tops.shape
    weights = _draw_counts(n_documents, resamples, generator)
    ratios = (weights @ tops.T) / (weights @ bottoms.T)  # [resamples, seeds]
    chosen = torch.randint(n_seeds, (resamples, n_seeds), generator=generator)
    draws = ratios.gather(1, chosen).mean(1)
    value = (tops.sum(1) / bottoms.sum(1)).mean()
    return _interval(float(value), draws, len(numerator), level)


def fve_interval(
    errors: Float[Tensor, " n"],
    deviations: Float[Tensor, " n"],
    documents: Int[Tensor, " n"],
    seeds: Int[Tensor, " n"] | None = None,
    *,
    generator: torch.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of FVE from `tl_nla.metrics.squared_errors` and `squared_deviations`; arguments as `ratio_interval`."""
    unexplained = ratio_interval(
        errors, deviations, documents, seeds, generator=generator, resamples=resamples, level=level
    )
    return Interval(1 - unexplained.value, 1 - unexplained.high, 1 - unexplained.low, unexplained.n)


def mean_interval(
    values: Float[Tensor, " n"],
    documents: Int[Tensor, " n"],
    seeds: Int[Tensor, " n"] | None = None,
    *,
    generator: torch.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean of `values` (rates too, as zeros and ones); arguments as `ratio_interval`."""
    ones = torch.ones_like(values)
    return ratio_interval(values, ones, documents, seeds, generator=generator, resamples=resamples, level=level)


def statistic_interval(
    statistic: Callable[[Int[Tensor, " m"]], float] | Sequence[Callable[[Int[Tensor, " m"]], float]],
    documents: Int[Tensor, " n"],
    *,
    generator: torch.Generator,
    resamples: int = 500,
    level: float = 0.95,
) -> Interval:
    """Interval of any statistic, such as AUC or a rank correlation; slower, one call a draw and seed.

    Args:
        statistic: takes row indices (repeated as drawn), returns the statistic of these rows; NaN draws are left out.
            Several, one a seed, are averaged, and then seeds are drawn as well.
        documents: the document of each row.
        generator: source of the draws, on the CPU.
        resamples: number of bootstrap draws.
        level: coverage.
    """
    if not len(documents):
        raise InputError("no rows to take an interval of")
    seeds = [statistic] if callable(statistic) else list(statistic)
    index = documents.unique(return_inverse=True)[1]
    rows = [torch.nonzero(index == d).flatten() for d in range(int(index.max()) + 1)]
    draws = []
    for _ in range(resamples):
        picks = torch.randint(len(rows), (len(rows),), generator=generator).tolist()
        drawn = torch.cat([rows[d] for d in picks])
        chosen = [0] if len(seeds) == 1 else torch.randint(len(seeds), (len(seeds),), generator=generator).tolist()
        draws.append(sum(float(seeds[seed](drawn)) for seed in chosen) / len(seeds))
    value = sum(float(one(torch.arange(len(documents)))) for one in seeds) / len(seeds)
    return _interval(value, torch.tensor(draws, dtype=torch.float64), len(documents), level)


def difference_to_best(
    values: Float[Tensor, " n"],
    others: Sequence[Float[Tensor, " n"]],
    documents: Int[Tensor, " n"],
    *,
    generator: torch.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of a mean minus the best of several other means of the same rows.

    The best one is chosen again in every draw, so that a lucky choice makes the interval lower and never higher.

    Args:
        values: one a row.
        others: what is compared with, each one a row.
        documents: the document of each row, any integers.
        generator: source of the draws, on the CPU.
        resamples: number of bootstrap draws.
        level: coverage.

    Raises:
        InputError: when there are no rows or no others, or lengths differ.
    """
    if not len(values) or not others or {len(one) for one in others} | {len(documents)} != {len(values)}:
        raise InputError(f"need equally many rows of each, at least one; got {[len(one) for one in others]}")
    own, *rest = (_sums(one, documents, None)[0] for one in (values, *others))
    count = _sums(torch.ones_like(values), documents, None)[0]
    weights = _draw_counts(len(count), resamples, generator)
    total = weights @ count
    best = torch.stack([weights @ one / total for one in rest]).max(0).values
    value = float(values.double().mean()) - max(float(one.double().mean()) for one in others)
    return _interval(value, weights @ own / total - best, len(values), level)


def _sums(values: Tensor, documents: Tensor, seeds: Tensor | None) -> Tensor:
    """Sum of the values of each seed's each document, ``[seeds, documents]`` in float64."""
    document = documents.unique(return_inverse=True)[1]
    seed = torch.zeros_like(document) if seeds is None else seeds.unique(return_inverse=True)[1]
    n_seeds, n_documents = int(seed.max()) + 1, int(document.max()) + 1
    flat = torch.zeros(n_seeds * n_documents, dtype=torch.float64)
    flat.index_add_(0, (seed * n_documents + document).cpu(), values.detach().double().cpu())
    return flat.view(n_seeds, n_documents)


def _draw_counts(clusters: int, resamples: int, generator: torch.Generator) -> Tensor:
    """How often each cluster is drawn in each resample, ``[resamples, clusters]`` in float64."""
    picks = torch.randint(clusters, (resamples, clusters), generator=generator)
    counts = torch.zeros(resamples, clusters, dtype=torch.float64)
    return counts.scatter_add_(1, picks, torch.ones_like(picks, dtype=torch.float64))


def _interval(value: float, draws: Tensor, n: int, level: float) -> Interval:
    draws = draws[torch.isfinite(draws)]
    if not len(draws):
        return Interval(value, float("nan"), float("nan"), n)
    tail = (1 - level) / 2
    low, high = torch.quantile(draws, torch.tensor([tail, 1 - tail], dtype=draws.dtype)).tolist()
    return Interval(value, low, high, n)
