"""What SmolLM2 gives to the core: see :mod:`tl_nla.plugins`."""

from typing import Any

from tl_nla.faithfulness.short_claims import SHORT_GRAMMAR, CheckedShortExplainer
from tl_nla.smollm2.machine import best_precision
from tl_nla.smollm2.weights import find_weights, local_place

__all__ = ["GRAMMAR", "explainer", "local_place", "nla", "oracle", "precision", "target_folder"]

GRAMMAR, precision, target_folder = SHORT_GRAMMAR, best_precision, find_weights


def explainer(site: str) -> CheckedShortExplainer:
    """What wrote the training texts of the shipped pair, with what is true of each position."""
    return CheckedShortExplainer()


def nla(model: Any) -> Any:
    """The shipped pair for the loaded model (:func:`tl_nla.smollm2.nla.load_nla`)."""
    from tl_nla.smollm2.nla import load_nla

    return load_nla(model, find_weights())


def oracle(model: Any) -> Any | None:
    """The shipped oracle with the tables of the loaded model; ``None`` where this installation has none."""
    from tl_nla.smollm2.oracle import FOLDER, shipped_oracle

    return shipped_oracle(model) if FOLDER.is_dir() else None
