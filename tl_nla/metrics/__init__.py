"""Metrics: plain functions, and torchmetrics objects that are imported when first asked for.

For rank correlation and AUC use ``torchmetrics.SpearmanCorrCoef`` and ``torchmetrics.AUROC`` as they are.
"""

from tl_nla._lazy import lazy
from tl_nla.metrics.functional import (
    FAILED_ERROR,
    cosine,
    fve,
    recall_at_k,
    squared_deviations,
    squared_errors,
)
from tl_nla.metrics.norms import normalise, scale_to_norm

__all__ = [
    "FAILED_ERROR",
    "ClasswiseRate",
    "FractionOfVarianceExplained",
    "cosine",
    "fve",
    "normalise",
    "recall_at_k",
    "scale_to_norm",
    "squared_deviations",
    "squared_errors",
]

_HOMES = {"FractionOfVarianceExplained": "tl_nla.metrics.variance", "ClasswiseRate": "tl_nla.metrics.rates"}
__getattr__ = lazy(__name__, _HOMES)
