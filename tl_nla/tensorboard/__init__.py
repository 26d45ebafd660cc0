"""What a report looks like in TensorBoard: stock summaries, and a small tab of our own."""

import importlib
from typing import Any

__all__ = ["log_hparams", "log_layout", "log_report", "log_writes", "scalars"]


def __getattr__(name: str) -> Any:
    """Import the writing side when it is first used: TensorBoard's server loads this package and needs no torch."""
    if name not in __all__:
        known = ", ".join(__all__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names: {known}")
    return getattr(importlib.import_module("tl_nla.tensorboard.log"), name)
