"""What SmolLM2 gives to the core: see :mod:`tl_nla.plugins`."""

from tl_nla.smollm2.machine import best_precision
from tl_nla.smollm2.weights import find_weights, local_place

__all__ = ["local_place", "precision", "target_folder"]

precision, target_folder = best_precision, find_weights
