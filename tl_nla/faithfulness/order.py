"""The order of an explanation's clauses: prefix curves and how near the model's order is to the best one."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.faithfulness.clauses import join_clauses, split_clauses
from tl_nla.faithfulness.scoring import Scorer


def prefix_curve(scorer: Scorer, clauses: Sequence[Sequence[str]], depth: int) -> Float[Tensor, "n depth"]:
    """Error of the first 1, 2, ... ``depth`` clauses of each explanation; a shorter one keeps its last error.

    Args:
        scorer: reconstructor and states.
        clauses: clauses of each explanation in the order to be read.
        depth: length of the curve.
    """
    texts, rows = [], []
    for row, own in enumerate(clauses):
        for count in range(1, depth + 1):
            texts.append(join_clauses(own[:count]))
            rows.append(row)
    return scorer.errors(texts, torch.tensor(rows)).view(len(clauses), depth)


def greedy_curve(scorer: Scorer, clauses: Sequence[Sequence[str]], depth: int) -> Float[Tensor, "n depth"]:
    """Error when at each step the clause that helps most comes next; all explanations go on side by side."""
    chosen: list[list[str]] = [[] for _ in clauses]
    left = [list(own) for own in clauses]
    curve = torch.empty(len(clauses), depth, dtype=torch.float64)
    best = scorer.errors([""] * len(clauses))
    for step in range(depth):
        tried = [(row, place) for row, own in enumerate(left) for place in range(len(own))]
        if tried:
            texts = [join_clauses([*chosen[row], left[row][place]]) for row, place in tried]
            errors = scorer.errors(texts, torch.tensor([row for row, _ in tried]))
            winners: dict[int, tuple[float, int]] = {}
            for (row, place), error in zip(tried, errors.tolist(), strict=True):
                winners[row] = min(winners.get(row, (error, place)), (error, place))
            for row, (error, place) in winners.items():
                chosen[row].append(left[row].pop(place))
                best[row] = error
        curve[:, step] = best
    return curve


@dataclass(frozen=True)
class OrderCurves:
    """Errors after 1, 2, ... clauses in four orders, ``[n, depth]`` each; ``random`` is the mean over its draws."""

    model: Float[Tensor, "n depth"]
    random: Float[Tensor, "n depth"]
    reversed: Float[Tensor, "n depth"]
    greedy: Float[Tensor, "n depth"]

    def optimality(self) -> list[float]:
        """(FVE_model - FVE_random) / (FVE_greedy - FVE_random) at each depth but the last: 1 is the best order.

        NaN where greedy is no better than random.
        """
        model, shuffled, greedy = (curve.mean(0)[:-1] for curve in (self.model, self.random, self.greedy))
        gap = shuffled - greedy
        return torch.where(gap > 0, (shuffled - model) / gap, torch.nan).tolist()


def order_curves(scorer: Scorer, texts: Sequence[str], depth: int | None = None, seeds: int = 3) -> OrderCurves:
    """Prefix curves in the model's order, in random orders, reversed, and greedily ordered.

    Args:
        scorer: reconstructor and states.
        texts: explanations, one a state; any text, taken apart into sentences and lines.
        depth: length of the curves; the largest number of clauses when ``None``.
        seeds: random orders to average over.
    """
    clauses = [[clause.text for clause in split_clauses(text)] for text in texts]
    depth = depth or max(1, *map(len, clauses), 1)
    draws = []
    for seed in range(seeds):
        rng = random.Random(f"order/{seed}")
        draws.append(prefix_curve(scorer, [rng.sample(own, len(own)) for own in clauses], depth))
    return OrderCurves(
        model=prefix_curve(scorer, clauses, depth),
        random=torch.stack(draws).mean(0),
        reversed=prefix_curve(scorer, [own[::-1] for own in clauses], depth),
        greedy=greedy_curve(scorer, clauses, depth),
    )
