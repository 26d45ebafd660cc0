"""Parts of a long training that are kept on the disk, so that an interrupted run goes on with the next part."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lightning_modules.training.fit_oracle import Curve
from tl_nla.errors import InputError
from tl_nla.finite import check_finite
from tl_nla.model.files import read_safetensors
from tl_nla.outputs import check_folder


class KeptParts:
    """A folder with one safetensors file for each trained part, and lists of words that parts are made with.

    Args:
        folder: where parts are kept; ``None`` keeps nothing.
        settings: what the parts were trained with; parts of other settings are refused.
    """

    def __init__(self, folder: Path | None, settings: str) -> None:
        self.folder, self.settings = folder, settings

    def trained(self, name: str, module: nn.Module, train: Callable[[], Curve]) -> Curve:
        """Train a module, or load what an earlier run kept of it.

        Args:
            name: of the part.
            module: trained in place; in evaluation mode afterwards.
            train: trains it.

        Returns:
            Its learning curve.

        Raises:
            InputError: when the kept part is damaged or was trained with other settings.
        """
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        if path is not None and path.is_file():
            curve = self._load(path, module)
        else:
            self.check_outputs()
            curve = train()
            if path is not None:
                self._save(path, module, curve)
        module.eval()
        return curve

    def listed(self, name: str, make: Callable[[], list[str]]) -> list[str]:
        """Make a list of words, or read what an earlier run kept of it.

        Args:
            name: of the list.
            make: makes it.

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
        beside = path.with_suffix(".unfinished")
        beside.write_text(json.dumps({"settings": self.settings, "words": words}), encoding="utf-8")
        os.replace(beside, path)
        return words

    def check_outputs(self) -> None:
        """Refuse a folder that cannot be written to, before the training whose outcome goes there.

        Raises:
            InputError: saying why.
        """
        if self.folder is not None:
            check_folder(self.folder)

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
        check_finite(state, f"trained part {path.stem!r}")
        beside = path.with_suffix(".unfinished")
        save_file(state, beside, metadata={"settings": self.settings, "curve": json.dumps(asdict(curve))})
        os.replace(beside, path)
