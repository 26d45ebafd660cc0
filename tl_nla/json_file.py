"""JSON files that are whole or not there."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tl_nla.errors import InputError
from tl_nla.paths import user_path


def write_json(content: Any, path: str | os.PathLike[str]) -> None:
    """Write JSON beside the target and move it there, so that a crash leaves the old file or none.

    Raises:
        InputError: when the content holds NaN or something JSON has no form for, or there is no such folder.
    """
    target = user_path(path)
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"cannot write {str(target)!r} as JSON: {error}") from error
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
