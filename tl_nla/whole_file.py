"""Files that are whole or not there: text, JSON, and whatever else is written beside its place first."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tl_nla.errors import InputError
from tl_nla.outputs import check_file
from tl_nla.paths import user_path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to write to, moved to its place at the end, so that a crash leaves the old file or none.

    Behind a symbolic link it is the file that is replaced, not the link.
    """
    path = path.resolve()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    half = Path(name)
    try:
        yield half
        umask = os.umask(0)
        os.umask(umask)
        half.chmod(0o666 & ~umask)  # mkstemp makes it private, others may read a result
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write text, whole or not at all. Pipes and devices, such as ``/dev/stdout``, are written to and stay.

    Raises:
        InputError: when there is no such folder, or the file may not be written.
    """
    target = check_file(path)
    if target.exists() and not target.is_file():
        target.write_text(text, encoding="utf-8")
        return
    with whole(target) as half:
        half.write_text(text, encoding="utf-8")


def write_json(content: Any, path: str | os.PathLike[str]) -> None:
    """Write JSON, whole or not at all.

    Raises:
        InputError: when the content holds NaN or something JSON has no form for, or there is no such folder.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"cannot write {str(user_path(path))!r} as JSON: {error}") from error
    write_text(text, path)
