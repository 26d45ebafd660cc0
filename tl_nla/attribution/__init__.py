"""What each layer and head contributes to the output: exact skips and direct attribution."""

from tl_nla._lazy import lazy
from tl_nla.attribution.components import Component, all_components, as_component
from tl_nla.attribution.direct import DirectAttribution, DirectConfig, direct_attribution
from tl_nla.attribution.skips import SkipConfig, SkipEffects, skip_effects, skip_logits

__all__ = [
    "Component",
    "DirectAttribution",
    "DirectConfig",
    "SkipConfig",
    "SkipEffects",
    "all_components",
    "as_component",
    "direct_attribution",
    "skip_effects",
    "skip_logits",
]

__getattr__ = lazy(__name__)
