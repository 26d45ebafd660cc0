"""Released verbalizers and oracles: one small module a family, found by what lies in the folder."""

from tl_nla._lazy import lazy

_HOMES = {
    "OpenedPair": "tl_nla.nla.formats.detection",
    "PairPlan": "tl_nla.nla.formats.plan",
    "Said": "tl_nla.nla.formats.plan",
    "OraclePlan": "tl_nla.nla.formats.oracle_plan",
    "open_pair": "tl_nla.nla.formats.detection",
    "plan_oracle": "tl_nla.nla.formats.oracle_detection",
    "plan_pair": "tl_nla.nla.formats.detection",
    "to_safetensors": "tl_nla.nla.formats.convert",
}

__all__ = sorted(_HOMES)
__getattr__ = lazy(__name__, _HOMES)
