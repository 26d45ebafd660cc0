"""Reports: the numbers of attribution with their words, as tables, Markdown, JSON, figures and TensorBoard."""

import importlib
from typing import Any

_HOMES = {
    "Cell": "tl_nla.reports.report",
    "ContributionReport": "tl_nla.reports.report",
    "layer_contributions": "tl_nla.reports.contributions",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: TensorBoard's server loads this package and needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tl_nla.reports' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
