"""What becomes of the next-token distribution when a component is left out at one position."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.attribution.skips import SkipEffects
from tl_nla.errors import InputError

SIZES = ("faint", "weak", "strong", "huge")
"""Words for the size of a skip's effect: a KL below 0.001, 0.01, 0.1 nats, and above."""
_LIMITS = (1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class SkipLabels:
    """One row for each chosen position of one component.

    Attributes:
        kl: KL(clean || without it) in nats.
        flips: whether the most likely next token changes.
        percentile: of the KL among components of the same kind and layer, 0 to 100.
        clean_top: most likely next token.
        skipped_top: most likely next token without the component.
        promoted: ids whose probability the component raises, weighted as in ``SkipEffects``; -1 where there are fewer.
        suppressed: ids whose probability it lowers; -1 where there are fewer.
    """

    kl: Float[Tensor, " n"]
    flips: Bool[Tensor, " n"]
    percentile: Float[Tensor, " n"]
    clean_top: Int[Tensor, " n"]
    skipped_top: Int[Tensor, " n"]
    promoted: Int[Tensor, "n k"]
    suppressed: Int[Tensor, "n k"]

    @property
    def size(self) -> Int[Tensor, " n"]:
        """Index into ``SIZES``. By the KL itself, not by its percentile: that depends on the positions beside it."""
        return torch.bucketize(self.kl, torch.tensor(_LIMITS).to(self.kl), right=True)


def skip_labels(
    effects: SkipEffects, component: Any, batch: Int[Tensor, " n"], column: Int[Tensor, " n"]
) -> SkipLabels:
    """Labels of one component at chosen positions, from ``tl_nla.attribution.skip_effects``.

    Args:
        effects: exact position-local skips of the tokens that were read.
        component: a ``Site`` or its text.
        batch: row of each position.
        column: column of each position.

    Raises:
        InputError: when the component was not skipped, or skips were made at all positions at once.
    """
    if effects.everywhere:
        raise InputError("these effects are of skips at all positions at once; labels need everywhere=False")
    names = [str(known) for known in effects.components]
    if str(component) not in names:
        raise InputError(f"no effect of {str(component)!r} was computed; there are {', '.join(names)}")
    row = names.index(str(component))
    ids, weight = effects.tokens[row, batch, column], effects.token_weight[row, batch, column]
    # A token that becomes less likely without the component is one that the component promotes.
    return SkipLabels(
        effects.kl[row, batch, column], effects.flip[row, batch, column], effects.percentile[row, batch, column],
        effects.clean_top[batch, column], effects.skipped_top[row, batch, column],
        _first(ids, weight < 0), _first(ids, weight > 0),
    )  # fmt: skip


def _first(ids: Tensor, kept: Tensor) -> Tensor:
    """Ids of a side moved to the front in their order, -1 behind them."""
    order = (~kept).long().argsort(dim=-1, stable=True)
    return ids.gather(-1, order).masked_fill(~kept.gather(-1, order), -1)
