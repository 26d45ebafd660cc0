"""What each layer and head contributes to the output: exact skips, direct attribution, and their report."""

import importlib
from typing import Any

from tl_nla.attribution.components import Component, all_components, as_component
from tl_nla.attribution.direct import DirectAttribution, direct_attribution
from tl_nla.attribution.skips import SkipEffects, skip_effects, skip_logits

__all__ = [
    "Cell",
    "Component",
    "ContributionReport",
    "DirectAttribution",
    "SkipEffects",
    "all_components",
    "as_component",
    "direct_attribution",
    "layer_contributions",
    "skip_effects",
    "skip_logits",
]

# The report is told in the oracle's words, and the oracle's labels need the skips: it is imported when first used.
_LATE = {
    "Cell": "tl_nla.attribution.report",
    "ContributionReport": "tl_nla.attribution.report",
    "layer_contributions": "tl_nla.attribution.contributions",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'tl_nla.attribution' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)
