"""Stages one after the other, kept in a folder, so that an interrupted training goes on where it was."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lightning_modules.callbacks.learning_curve import Curve
from lightning_modules.training.stage import StageSpec, run_stage
from tl_nla.errors import InputError
from tl_nla.finite import check_finite
from tl_nla.model.files import read_safetensors
from tl_nla.outputs import check_folder
from tl_nla.whole_file import whole, write_json

Tell: TypeAlias = Callable[[str, int, int], None]
"""Takes the name of a stage, the steps done, and all steps."""


class Stages:
    """A folder with one safetensors file for each finished stage, and the checkpoint of the one that is under way.

    Args:
        folder: where stages are kept; ``None`` keeps nothing.
        settings: what the stages are trained with, in words; stages of other settings are refused.
        tell: hears how far each stage is.
    """

    def __init__(self, folder: Path | None, settings: str, tell: Tell | None = None) -> None:
        self.folder, self.settings, self.tell = folder, settings, tell

    def with_settings(self, more: str) -> "Stages":
        """The same folder for a stage that has settings beyond those of the others."""
        return Stages(self.folder, f"{self.settings}, {more}", self.tell)

    def run(self, name: str, module: nn.Module, prepare: Callable[[], StageSpec]) -> Curve:
        """Train a module, go on training it, or load what an earlier run made of it.

        Args:
            name: of the stage.
            module: trained in place; in evaluation mode afterwards.
            prepare: gives what it is trained on; only called where something is left to train.

        Returns:
            Its learning curve.

        Raises:
            InputError: when the kept stage or its checkpoint is damaged, or was trained with other settings.
        """
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        if path is not None and path.is_file():
            curve = self._load(path, module)
            self._tell(name, *curve.steps[-1:] * 2)
        else:
            self.check_outputs()
            curve = self._train(name, module, prepare, path)
        module.eval()
        return curve

    def listed(self, name: str, make: Callable[[], list[str]]) -> list[str]:
        """Make a list of words, or read what an earlier run kept of it.

        Raises:
            InputError: when the kept list is damaged or belongs to other settings.
        """
        path = None if self.folder is None else self.folder / f"{name}.json"
        if path is None:
            return make()
        if path.is_file():
            return self._read(path)
        self.check_outputs()
        words = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json({"settings": self.settings, "words": words}, path)
        return words

    def check_outputs(self) -> None:
        """Refuse a folder that cannot be written to, before the training whose outcome goes there."""
        if self.folder is not None:
            check_folder(self.folder)

    def _train(self, name: str, module: nn.Module, prepare: Callable[[], StageSpec], path: Path | None) -> Curve:
        self._tell(name)
        checkpoint = None if path is None else path.with_suffix(".ckpt")
        curve = run_stage(module, prepare(), checkpoint, self.settings, lambda *steps: self._tell(name, *steps))
        if path is not None and checkpoint is not None:
            self._save(path, module, curve)
            checkpoint.unlink(missing_ok=True)
        return curve

    def _tell(self, name: str, done: int = 0, steps: int = 0) -> None:
        if self.tell is not None:
            self.tell(name, done, steps)

    def _read(self, path: Path) -> list[str]:
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            settings, words = known["settings"], [str(word) for word in known["words"]]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} holds no list of words; remove it") from error
        self._check(path, settings)
        return words

    def _check(self, path: Path, settings: str | None) -> None:
        if settings != self.settings:
            raise InputError(
                f"{path} was trained with other settings ({settings}; now {self.settings}); give another folder, or "
                "remove it"
            )

    def _load(self, path: Path, module: nn.Module) -> Curve:
        state = read_safetensors(path)
        with safe_open(path, "pt") as file:
            known = file.metadata() or {}
        self._check(path, known.get("settings"))
        module.load_state_dict(state)
        return Curve(**json.loads(known["curve"]))

    def _save(self, path: Path, module: nn.Module, curve: Curve) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {key: value.detach().cpu().clone().contiguous() for key, value in module.state_dict().items()}
        check_finite(state, f"trained stage {path.stem!r}")
        with whole(path) as half:
            save_file(state, half, metadata={"settings": self.settings, "curve": json.dumps(asdict(curve))})
