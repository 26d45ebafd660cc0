"""Writes the trained pair or oracle when training ends."""

from typing import Any

import lightning as L

from lightning_modules.outputs import fast_dev_run
from lightning_modules.sharding import plain_weights
from tl_nla.errors import InputError
from tl_nla.nla import NLA
from tl_nla.nla.adapted_files import save_adapted
from tl_nla.oracle import DiffOracle
from tl_nla.paths import user_path


class _SaveAfterFit(L.Callback):
    """Saves a part of the module after ``fit``; what would make that impossible is refused before it.

    Nothing is saved after ``fast_dev_run``, nor when no step was made.
    """

    part, what, kind = "", "", NLA

    def __init__(self, folder: str) -> None:
        self.folder = user_path(folder)

    def check_outputs(self, stage: str) -> None:
        """Refuse a folder that cannot be written to."""
        if stage == "fit":
            self.kind.check_saving(self.folder)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that there is something to save, and somewhere to save it.

        Raises:
            InputError: when the module does not have the part, or the folder cannot be written to.
        """
        name = type(self).__name__
        if not hasattr(pl_module, self.part):
            raise InputError(
                f"{name} saves the {self.what} of a module with .{self.part}; {type(pl_module).__name__} has none"
            )
        if trainer.is_global_zero:
            self.check_outputs(stage)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save.

        Raises:
            InputError: when nothing was trained.
        """
        if fast_dev_run(trainer):
            return
        if not trainer.global_step:
            raise InputError(
                f"no step was made ({trainer.num_training_batches} batches an epoch, max_epochs {trainer.max_epochs}, "
                f"max_steps {trainer.max_steps}), so the {self.what} was not saved"
            )
        self.save(trainer, pl_module)

    def save(self, trainer: L.Trainer, module: Any) -> None:
        """Write the part, in the first process only."""
        part = getattr(module, self.part)
        with plain_weights(part):
            if trainer.is_global_zero:
                part.save_pretrained(self.folder)


class SaveNLA(_SaveAfterFit):
    """Saves ``folder/av`` and ``folder/ar`` after ``fit``, so that the next command can start from the folder.

    Both parts are written; the one that was not trained is as it was loaded. Nothing is written after
    ``fast_dev_run``.

    Args:
        folder: where to. Of a small pair (:mod:`tl_nla.nla.adapted`) only what was trained is written.
    """

    part, what = "nla", "pair"

    def save(self, trainer: L.Trainer, module: Any) -> None:
        """Write the pair, with the training-set mean of the data module."""
        data: Any = getattr(trainer, "datamodule", None)
        if getattr(data, "mean", None) is not None:
            module.nla.mean = data.mean
        if module.nla.adapted is None:
            super().save(trainer, module)
        elif trainer.is_global_zero:
            save_adapted(module.nla, self.folder)


class SaveOracle(_SaveAfterFit):
    """Saves the diff oracle after ``fit``: verbalizer, reconstructor and magnitudes, whichever of them was trained.

    Nothing is written after ``fast_dev_run``.

    Args:
        folder: where to; ``DiffOracle.from_pretrained``, ``tl-nla diff --oracle`` and ``model`` of the next training
            read it.
    """

    part, what = "oracle", "oracle"
    kind: Any = DiffOracle
