"""Natural language autoencoders at the hook points of any TransformerLens model."""

from tl_nla._lazy import lazy

__version__ = "0.3.0.dev0"

_HOMES = {
    "ActivationOracle": "tl_nla.nla",
    "ActivationOracleAdapter": "tl_nla.adapters",
    "DiffOracle": "tl_nla.oracle",
    "HeadDiffAdapter": "tl_nla.adapters",
    "ContributionReport": "tl_nla.reports.report",
    "InputError": "tl_nla.errors",
    "LayerDiffAdapter": "tl_nla.adapters",
    "NLA": "tl_nla.nla",
    "Reading": "tl_nla.model.reading",
    "Site": "tl_nla.model.sites",
    "SteeringAdapter": "tl_nla.adapters",
    "VerbalizerAdapter": "tl_nla.adapters",
    "attach": "tl_nla.adapters",
    "check": "tl_nla.reports.check",
    "estimate": "tl_nla.benchmark.estimate",
    "layer_contributions": "tl_nla.reports.contributions",
    "load": "tl_nla.model.targets",
    "load_smollm2": "tl_nla.smollm2.loading",
    "load_tiny": "tl_nla.storyworld.tiny",
    "read": "tl_nla.model.reading",
}

__all__ = sorted(_HOMES)
__getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
