"""What lies in a local folder or a hub repository; only what is asked for is downloaded."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tl_nla.errors import InputError
from tl_nla.model.files import first_line, local_folder, read_json
from tl_nla.paths import user_path

_KINDS = (".json", ".yaml", ".safetensors", ".txt", ".model", ".jinja")
"""Files that are ever read; pickles are not."""


@dataclass(frozen=True)
class Listing:
    """The files of a folder, which may lie in a repository of the hub.

    Repositories hold hundreds of gigabytes in sub-folders, so that the folder is chosen by its listing first.

    Attributes:
        name: local folder or hub id.
        inside: sub-folder of it; empty for the folder itself.
        all_files: paths of all files below the name.
        on_hub: whether the files have to be downloaded.
    """

    name: str
    all_files: tuple[str, ...]
    inside: str = ""
    on_hub: bool = False

    @classmethod
    def of(cls, name: str | Path) -> "Listing":
        """List a local folder or a hub repository.

        Raises:
            InputError: when it is neither an existing folder nor a reachable hub id.
        """
        path = user_path(name) if str(name).strip() else Path()
        if str(name).strip() and path.is_dir():
            files = sorted(found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file())
            return cls(str(path), tuple(files))
        if not str(name).strip() or path.exists() or str(name).startswith((".", "/", "~")):
            return cls(str(local_folder(name)), ())  # which says what is wrong
        return cls(str(name), tuple(sorted(_on_hub(str(name)))), "", True)

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Paths below this folder."""
        front = f"{self.inside}/" if self.inside else ""
        return tuple(path.removeprefix(front) for path in self.all_files if path.startswith(front))

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders directly in this one, numbers in their order."""
        return tuple(sorted({path.split("/")[0] for path in self.files if "/" in path}, key=_numbered))

    @property
    def here(self) -> tuple[str, ...]:
        """Names of the files directly in this folder."""
        return tuple(path for path in self.files if "/" not in path)

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"{self.name}/{self.inside}" if self.inside else self.name

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        return path in self.files

    def at(self, folder: str) -> "Listing":
        """A folder inside this one."""
        return Listing(self.name, self.all_files, f"{self.inside}/{folder}" if self.inside else folder, self.on_hub)

    def json(self, path: str) -> dict[str, Any]:
        """A JSON object; an empty one where there is no such file."""
        return read_json(self._fetched((path,)) / path) if self.has(path) else {}

    def yaml(self, path: str) -> Any:
        """The content of a YAML file; ``None`` where there is none."""
        if not self.has(path):
            return None
        try:
            return yaml.safe_load((self._fetched((path,)) / path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"{self.title}/{path} is not valid YAML: {' '.join(str(error).split())}") from error

    def fetch(self) -> Path:
        """This folder on the disk, with the files directly in it.

        Raises:
            InputError: when the hub cannot be reached.
        """
        return self._fetched(tuple(path for path in self.here if path.endswith(_KINDS)))

    def _fetched(self, paths: tuple[str, ...]) -> Path:
        if not self.on_hub:
            return Path(self.name, self.inside)
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        front = f"{self.inside}/" if self.inside else ""
        try:
            return Path(snapshot_download(self.name, allow_patterns=[front + path for path in paths]), self.inside)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise InputError(f"{self.title} could not be had from the hub: {first_line(error)}") from error


def _on_hub(name: str) -> list[str]:
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        if not HF_HUB_OFFLINE:
            return list(list_repo_files(name))
        folder = Path(snapshot_download(name, local_files_only=True))
        return [found.relative_to(folder).as_posix() for found in folder.rglob("*") if found.is_file()]
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{name!r} is no local folder and could not be had from the hub: {first_line(error)}"
        ) from error


def pick(listing: Listing, folders: list[str], choice: str | None, preferred: str | None = None) -> str:
    """One of several checkpoints that lie side by side.

    Args:
        listing: where they are.
        folders: their names, at least one.
        choice: what the user asked for: a name, or its number.
        preferred: taken without a choice where it is there; else the last one is.

    Raises:
        InputError: when the choice is none of them, or several.
    """
    if choice is None:
        return preferred if preferred in folders else folders[-1]
    fitting = [name for name in folders if name == choice] or [
        name for name in folders if choice.isdigit() and _last_number(name) == int(choice)
    ]
    if len(fitting) != 1:
        raise InputError(f"choice {choice!r} fits {len(fitting)} of {', '.join(folders)} in {listing.title}; name one")
    return fitting[0]


def _numbered(name: str) -> tuple[str, float]:
    numbers = re.findall(r"\d+(?:\.\d+)?", name)
    return (re.sub(r"\d+(?:\.\d+)?", "#", name), float(numbers[-1]) if numbers else -1.0)


def _last_number(name: str) -> int | None:
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else None
