"""Natural language autoencoders at the hook points of any TransformerLens model."""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "tl_nla.adapters",
    "DiffOracle": "tl_nla.oracle",
    "HeadDiffAdapter": "tl_nla.adapters",
    "ContributionReport": "tl_nla.attribution.report",
    "InputError": "tl_nla.errors",
    "LayerDiffAdapter": "tl_nla.adapters",
    "NLA": "tl_nla.nla",
    "Reading": "tl_nla.reading",
    "Site": "tl_nla.sites",
    "SteeringAdapter": "tl_nla.adapters",
    "VerbalizerAdapter": "tl_nla.adapters",
    "attach": "tl_nla.adapters",
    "check": "tl_nla.model.check",
    "layer_contributions": "tl_nla.attribution.contributions",
    "load_tiny": "tl_nla.storyworld.tiny",
    "read": "tl_nla.reading",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import tl_nla`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tl_nla' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
