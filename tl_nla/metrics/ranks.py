"""Metrics that depend on the order of scores alone, by torchmetrics; NaN where the order says nothing."""

from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.functional.regression import spearman_corrcoef


def area_under_curve(scores: Float[Tensor, " n"], positive: Float[Tensor, " n"]) -> float:
    """Probability that a positive row has the higher score, ties counted half (Mann and Whitney 1947).

    Args:
        scores: any numbers.
        positive: 1 for positive rows, 0 for the others.

    Returns:
        The area under the ROC curve to six digits, as torchmetrics adds it up in float32; NaN without both classes.
    """
    target = (positive > 0.5).long()
    if len(target.unique()) < 2:
        return float("nan")
    # torchmetrics takes scores outside of 0 to 1 through a sigmoid, which makes ties of large ones.
    order = scores.unique(return_inverse=True)[1].double()
    return round(float(binary_auroc(order / order.max().clamp_min(1), target)), 6)


def spearman(one: Float[Tensor, " n"], two: Float[Tensor, " n"]) -> float:
    """Rank correlation, ties at their mean rank; NaN where one side does not vary."""
    if min(len(one.unique()), len(two.unique())) < 2:
        return float("nan")
    return float(spearman_corrcoef(one.double(), two.double()))
