"""Text files that are whole or not there."""

import os
import tempfile
from pathlib import Path

from tl_nla.errors import InputError
from tl_nla.paths import user_path


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write text beside the target and move it there, so that a crash leaves the old file or none.

    Raises:
        InputError: when there is no such folder.
    """
    target = user_path(path)
    if not target.parent.is_dir():
        raise InputError(f"cannot write {str(target)!r}: there is no folder {str(target.parent)!r}")
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes it private, others may read a result
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
