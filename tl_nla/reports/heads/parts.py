"""What is done of head cards, as files that are whole or not there: a run that was killed goes on from them."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.outputs import check_folder
from tl_nla.whole_file import whole, write_json

SETTINGS = "head_cards.json"


class Parts:
    """A folder of parts.

    Args:
        folder: where they are.
        settings: what all of them depend on.

    Raises:
        InputError: when the folder holds parts that were made with other settings, or cannot be written to.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path, own = folder / SETTINGS, json.loads(json.dumps(dict(settings)))
        if not path.is_file():
            write_json(own, path)
            return
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); give another folder, or empty this one") from error
        if known != own:
            changed = [name for name in own if not isinstance(known, dict) or known.get(name) != own[name]]
            raise InputError(
                f"{str(folder)!r} holds parts of other head cards ({', '.join(changed) or 'other settings'} differ); "
                "give another folder, or empty this one"
            )

    def tensors(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> Path:
        """File of some tensors, made when it is not there."""
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            tensors = {key: value.contiguous() for key, value in make().items()}
            with whole(path) as half:
                save_file(tensors, half)
        return path

    def values(self, name: str, make: Callable[[], Any]) -> Any:
        """What a JSON file holds, made when it is not there."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            write_json(make(), path)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); remove it and run the same again") from error


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file of tensors that are read one by one.

    Raises:
        InputError: when it is damaged.
    """
    try:
        with safe_open(str(path), "pt") as file:
            yield file
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}); remove it and run the same again") from error


@contextmanager
def parts_in(folder: Path | None, settings: Mapping[str, Any]) -> Iterator[Parts]:
    """Parts in a folder, or in one that goes away at the end when ``None``."""
    if folder is not None:
        yield Parts(folder, settings)
        return
    with tempfile.TemporaryDirectory(prefix="tl-nla-heads-") as scratch:
        yield Parts(Path(scratch), settings)
