"""Random tiny folders in the layout of every released family, and checks that a folder can be run through."""

from tl_nla._lazy import lazy

_HOMES = {
    "Written": "tl_nla.nla.formats.testing.tiny",
    "write_activation_oracle": "tl_nla.nla.formats.testing.oracles",
    "write_easynla": "tl_nla.nla.formats.testing.pairs",
    "write_kitft": "tl_nla.nla.formats.testing.pairs",
    "write_nanonla": "tl_nla.nla.formats.testing.pairs",
    "write_oracle_lens": "tl_nla.nla.formats.testing.oracles",
    "write_transluce": "tl_nla.nla.formats.testing.oracles",
}

__all__ = sorted(_HOMES)
__getattr__ = lazy(__name__, _HOMES)
