"""Row scores on the disk: named tensors in one safetensors file, with a few words on how they were made.

Everything that stores rows (studies, scored oracles, recoveries) does it here. Files are written whole or not at all.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.whole_file import whole


def write_rows(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Store named tensors.

    Args:
        path: of the file; its folder is made when it is not there.
        tensors: by name.
        about: words that stand beside them.

    Example:
        >>> write_rows(Path("rows/scores.safetensors"), {"0/errors/gold": errors}, {"steps": "400"})
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as half:
        save_file({name: value.contiguous() for name, value in tensors.items()}, half, dict(about or {}) or None)


def read_rows(path: Path, remedy: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Named tensors and the words beside them; nothing where there is no file and no remedy.

    Args:
        path: of the file.
        remedy: what to do when there is no file.

    Raises:
        InputError: when the file is damaged, or not there and a remedy is named.
    """
    if not path.is_file():
        if remedy is not None:
            raise InputError(f"no stored results at {path}; {remedy}")
        return {}, {}
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}); make it again, or take it from the repository") from error
