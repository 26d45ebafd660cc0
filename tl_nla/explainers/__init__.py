"""Explainers: where the texts come from that verbalizers and reconstructors are trained on."""

from tl_nla.explainers.base import Explainer, Moment
from tl_nla.explainers.mechanical import explain_mechanically

__all__ = ["Explainer", "Moment", "explain_mechanically"]
