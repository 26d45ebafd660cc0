"""Adapters: objects that give hook functions to a model and hand over what they found."""

from tl_nla._lazy import lazy
from tl_nla.adapters.attach import attach
from tl_nla.adapters.base import Adapter
from tl_nla.adapters.diff import DiffAdapter, HeadDiffAdapter, LayerDiffAdapter, WriteExplanation
from tl_nla.adapters.oracle import ActivationOracleAdapter, OracleAnswer
from tl_nla.adapters.reading import ReadingAdapter
from tl_nla.adapters.steering import Steered, SteeringAdapter, VectorAdapter
from tl_nla.adapters.verbalizer import Explanation, VerbalizerAdapter

__all__ = [
    "ActivationOracleAdapter",
    "Adapter",
    "DiffAdapter",
    "Explanation",
    "HeadDiffAdapter",
    "LayerDiffAdapter",
    "OracleAnswer",
    "ReadingAdapter",
    "Steered",
    "SteeringAdapter",
    "VectorAdapter",
    "VerbalizerAdapter",
    "WriteExplanation",
    "attach",
]

__getattr__ = lazy(__name__)
