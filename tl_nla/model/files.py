"""Folders and the files in them: JSON and safetensors only, whatever is damaged named by its path."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.paths import user_path

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def local_folder(name: str | Path, below: bool = False) -> Path:
    """The folder itself, or the hub repository's files downloaded to the cache.

    Args:
        name: folder or hub id.
        below: also download what lies in sub-folders; they may hold other checkpoints of any size.

    Raises:
        InputError: when it is neither an existing folder nor a reachable hub id.
    """
    if not str(name).strip() or name == Path():
        raise InputError("the name is empty; give a folder with config.json and *.safetensors, or a hub id")
    path = user_path(name)
    if path.is_dir():
        return path
    if path.exists() or str(name).startswith((".", "/", "~")):
        raise InputError(f"{str(name)!r} is no folder; give a folder with config.json and *.safetensors, or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.yaml", "*.safetensors", "*.txt", "*.model", "*.jinja"]
        left = [] if below else ["*/*"]  # a pattern's star also fits "/"
        return Path(snapshot_download(str(name), allow_patterns=patterns, ignore_patterns=left))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error)
        raise InputError(f"{str(name)!r} is no local folder and could not be had from the hub: {reason}") from error


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of one file.

    Raises:
        InputError: when the file is missing, damaged, or a pickle.
    """
    path = user_path(path)
    if path.suffix in _PICKLES:
        raise InputError(f"{path} is a pickle; only safetensors are read (convert it with safetensors' save_file)")
    if not path.is_file():
        pickles = [other.name for other in path.parent.glob(f"{path.stem}.*") if other.suffix in _PICKLES]
        beside = f" ({', '.join(pickles)} is a pickle, which is never read)" if pickles else ""
        raise InputError(f"no weights at {path}{beside}; a safetensors file is needed")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({first_line(error)})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: when it is missing, no JSON, or no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}; it must be an object")
    return found


def check_weights(folder: Path) -> None:
    """Refuse folders without configuration, without safetensors, with damaged ones, or with pickles only.

    Raises:
        InputError: naming the file at fault.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"no config.json in {folder}; it is no Hugging Face model folder")
    files = [path for path in folder.glob("*.safetensors") if path.name.startswith("model")]
    if not files:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        found = f"only pickles ({', '.join(pickles)}), which are never read" if pickles else "no weights"
        raise InputError(f"{folder} holds {found}; model.safetensors is needed")
    for path in files:
        try:
            with safe_open(path, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a whole safetensors file ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """What an error says first: messages of others may be pages long."""
    return (str(error).splitlines() or [type(error).__name__])[0]
