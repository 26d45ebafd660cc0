"""Writes the trained pair or oracle when training ends."""

from typing import Any

import lightning as L

from tl_nla.errors import InputError
from tl_nla.paths import user_path


class SaveNLA(L.Callback):
    """Saves ``folder/av`` and ``folder/ar`` after ``fit``, so that the next command can start from the folder.

    Both parts are written; the one that was not trained is as it was loaded.

    Args:
        folder: where to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = user_path(folder)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that there is a pair to save.

        Raises:
            InputError: when the module trains no NLA.
        """
        if not hasattr(pl_module, "nla"):
            raise InputError(f"SaveNLA saves the pair of a module with .nla; {type(pl_module).__name__} has none")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the pair, with the training-set mean of the data module."""
        pair: Any = pl_module.nla
        data: Any = getattr(trainer, "datamodule", None)
        if getattr(data, "mean", None) is not None:
            pair.mean = data.mean
        if trainer.is_global_zero:
            pair.save_pretrained(self.folder)


class SaveOracle(L.Callback):
    """Saves the diff oracle after ``fit``: reader, reconstructor and magnitudes, whichever of them was trained.

    Args:
        folder: where to; ``DiffOracle.from_pretrained``, ``tl-nla diff --oracle`` and ``model`` of the next training
            read it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = user_path(folder)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that there is an oracle to save.

        Raises:
            InputError: when the module trains no oracle.
        """
        if not hasattr(pl_module, "oracle"):
            raise InputError(
                f"SaveOracle saves the oracle of a module with .oracle; {type(pl_module).__name__} has none"
            )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the oracle."""
        oracle: Any = pl_module.oracle
        if trainer.is_global_zero:
            oracle.save_pretrained(self.folder)
