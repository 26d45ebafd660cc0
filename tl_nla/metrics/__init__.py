"""Metrics: plain functions, and torchmetrics objects that are imported when first asked for.

For rank correlation and AUC use ``torchmetrics.SpearmanCorrCoef`` and ``torchmetrics.AUROC`` as they are.
"""

from typing import Any

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

_LAZY = {"FractionOfVarianceExplained": "tl_nla.metrics.variance", "ClasswiseRate": "tl_nla.metrics.rates"}


def __getattr__(name: str) -> Any:
    """Import a torchmetrics class on first use, so that ``import tl_nla`` stays light."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
