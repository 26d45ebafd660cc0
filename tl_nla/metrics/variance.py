"""FVE as a torchmetrics object: exact in float64 over batches, processes and large offsets."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from tl_nla.errors import InputError
from tl_nla.metrics.functional import normalise, squared_errors


class FractionOfVarianceExplained(Metric):
    """Fraction of variance explained, ``1 − Σ‖p̂−ĝ‖² / Σ‖ĝ−ḡ‖²``; see `tl_nla.metrics.fve` for the definition.

    All sums are kept in float64, whatever the inputs' dtype: in float32 a residual stream with a large mean gives FVE
    above 1. (MPS has no float64: keep the metric on the CPU there.)

    Args:
        mean: ḡ, the training set's mean of normalised vectors, ``[d_model]``. When None, the mean of all targets seen
            stands in (a little smaller numbers); across processes every process must then have seen a target.
        normalised: L2-normalise vectors to √d_model first.
        kwargs: passed on to ``torchmetrics.Metric``.

    Example:
        >>> metric = FractionOfVarianceExplained(mean=torch.zeros(2))
        >>> metric.update(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
        >>> round(metric.compute().item(), 3)
        1.0
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    plot_upper_bound = 1.0

    errors: Tensor
    squares: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, mean: Float[Tensor, " d_model"] | None = None, normalised: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if mean is not None and not torch.isfinite(mean).all():
            raise InputError("the training-set mean holds NaN or infinite values")
        self.normalised = normalised
        self.mean = None if mean is None else mean.detach().double().cpu()
        zero = torch.zeros((), dtype=torch.float64)
        # `squares` and `total` are of targets minus the given mean; without one, the variance follows from both.
        for name in ("errors", "squares", "total", "count"):
            self.add_state(name, zero.clone(), dist_reduce_fx="sum")

    def update(
        self,
        preds: Float[Tensor, "n d_model"],
        targets: Float[Tensor, "n d_model"],
        failed: Bool[Tensor, " n"] | None = None,
    ) -> None:
        """Add rows.

        Args:
            preds: predictions, in model units.
            targets: true vectors, in model units.
            failed: rows without an extracted explanation; each counts a squared error of ``2 · d_model``.

        Raises:
            InputError: when the shapes differ, the targets are not finite or do not fit the mean.
        """
        if self.mean is not None and self.mean.shape[-1] != targets.shape[-1]:
            raise InputError(f"targets have d_model {targets.shape[-1]}, the training-set mean {self.mean.shape[-1]}")
        self.errors = self.errors + squared_errors(preds, targets, failed, self.normalised).sum()
        truth = normalise(targets.double()) if self.normalised else targets.double()
        if self.mean is not None:
            truth = truth - self.mean.to(truth)
        else:
            self.total = self.total + truth.sum(0)
        self.squares = self.squares + truth.square().sum()
        self.count = self.count + len(targets)

    def compute(self) -> Tensor:
        """Return the FVE of all rows so far; NaN when there are none or they do not vary."""
        deviations = self.squares
        if self.mean is None:
            deviations = deviations - self.total.square().sum() / self.count.clamp_min(1)
        # What is left of equal targets after the subtraction is rounding, not variance.
        varies = deviations > 1e-14 * self.squares
        return torch.where(varies, 1 - self.errors / deviations, torch.full_like(self.errors, torch.nan))
