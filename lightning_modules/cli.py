"""LightningCLI that asks, before it runs anything, whether what is written at the end can be written."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningCLI

from lightning_modules.callbacks.checkpoint_io import damage
from lightning_modules.callbacks.step_bar import StepBar
from lightning_modules.outputs import check_outputs, fast_dev_run
from tl_nla.errors import InputError
from tl_nla.paths import user_path

_CHOSEN_LATER = ("best", "last", "hpc")


class CheckingCLI(LightningCLI):
    """Lightning's command line, which refuses damaged checkpoints and folders that cannot be written first.

    Raises:
        InputError: naming the checkpoint or folder at fault.
    """

    def _parse_ckpt_path(self) -> None:
        # Lightning's own puts the arguments of the checkpoint's module over those of the command line, and cannot
        # when modules are given by class. Ours are what they say; a checkpoint of another run is refused.
        path = str(self.config[self.config.subcommand].get("ckpt_path") or "")
        elsewhere = not path or path in _CHOSEN_LATER or path.startswith("registry") or "://" in path
        if not elsewhere and not user_path(path).exists():  # Lightning looks only when the data are there
            raise InputError(f"no checkpoint {path!r}; give the path of one, or last")
        reason = damage(path) if Path(path).is_file() else None
        if reason is not None:
            raise InputError(f"checkpoint {path!r} cannot be read ({reason}); give another one")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the trainer, with a bar that counts to the end where the configuration has none of its own."""
        given = self.config_init[self.config_init["subcommand"]]["trainer"]
        callbacks = kwargs.get("callbacks", given["callbacks"]) or []
        callbacks = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
        shows = given["enable_progress_bar"] is not False
        if shows and not any(isinstance(one, ProgressBar) for one in callbacks):
            kwargs["callbacks"] = [*callbacks, StepBar()]
        return super().instantiate_trainer(**kwargs)

    def _ask(self, stage: str) -> None:
        check_outputs(self.trainer, stage, config_saved=not fast_dev_run(self.trainer))

    def before_fit(self) -> None:
        """Ask before training."""
        self._ask("fit")

    def before_validate(self) -> None:
        """Ask before validation."""
        self._ask("validate")

    def before_test(self) -> None:
        """Ask before testing."""
        self._ask("test")

    def before_predict(self) -> None:
        """Ask before prediction."""
        self._ask("predict")
