"""Random tiny folders in the layout of every released family, and checks that a folder can be run through."""

from tl_nla._lazy import lazy

_HOMES = {
    "ConformanceRow": "tl_nla.nla.formats.testing.conformance",
    "LayerScore": "tl_nla.nla.formats.testing.layers",
    "Written": "tl_nla.nla.formats.testing.tiny",
    "best_layer": "tl_nla.nla.formats.testing.layers",
    "check_oracle": "tl_nla.nla.formats.testing.conformance",
    "check_pair": "tl_nla.nla.formats.testing.conformance",
    "score_layers": "tl_nla.nla.formats.testing.layers",
    "write_activation_oracle": "tl_nla.nla.formats.testing.oracles",
    "write_easynla": "tl_nla.nla.formats.testing.pairs",
    "write_kitft": "tl_nla.nla.formats.testing.pairs",
    "write_nanonla": "tl_nla.nla.formats.testing.pairs",
    "write_oracle_lens": "tl_nla.nla.formats.testing.oracles",
    "write_transluce": "tl_nla.nla.formats.testing.oracles",
}

__all__ = sorted(_HOMES)
__getattr__ = lazy(__name__, _HOMES)
