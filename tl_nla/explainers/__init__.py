"""Explainers: where the texts come from that verbalizers and reconstructors are trained on."""

from tl_nla._lazy import lazy
from tl_nla.explainers.base import Explainer, Moment
from tl_nla.explainers.column import ColumnExplainer
from tl_nla.explainers.functions import as_explainer, each_moment
from tl_nla.explainers.mechanical import explain_mechanically

__all__ = [
    "ColumnExplainer",
    "EndpointConfig",
    "EndpointExplainer",
    "Explainer",
    "LocalModelExplainer",
    "Moment",
    "as_explainer",
    "each_moment",
    "explain_mechanically",
]

__getattr__ = lazy(
    __name__,
    {
        "EndpointConfig": "tl_nla.explainers.endpoint",
        "EndpointExplainer": "tl_nla.explainers.endpoint",
        "LocalModelExplainer": "tl_nla.explainers.local",
    },
)
