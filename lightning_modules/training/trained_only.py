"""Checkpoints that hold what is trained and nothing else."""

from typing import Any

from torch import Tensor

from lightning_modules.base import TrainingModule

_COUNTS = "nla_training"


class TrainedOnly(TrainingModule):
    """A module whose checkpoints leave out frozen weights, and that refuses checkpoints of another set of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.strict_loading = False

    def trained_names(self) -> set[str]:
        """Names of the parameters that are trained, tied ones once."""
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def checkpoint_weights(self) -> dict[str, Tensor]:
        """What is trained."""
        names = self.trained_names()
        return {name: value for name, value in self.state_dict().items() if name in names}

    def counts(self) -> dict[str, int]:
        """Counters that belong to the checkpoint."""
        return {}

    def set_counts(self, counts: dict[str, int]) -> None:
        """Take over the counters of a checkpoint."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained, and the counters."""
        super().on_save_checkpoint(checkpoint)
        kept = self.trained_names()
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in kept}
        checkpoint[_COUNTS] = self.counts()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this training, and take over its counters.

        Raises:
            InputError: when its weights are not exactly the trained ones of this module.
        """
        super().on_load_checkpoint(checkpoint)
        self.set_counts(checkpoint.get(_COUNTS, self.counts()))
