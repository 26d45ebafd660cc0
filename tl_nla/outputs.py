"""Where results go: what cannot be written is found out before the work, not behind it.

Every check leaves nothing behind. Call one at the start of anything long that writes at its end.
"""

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from tl_nla.errors import InputError
from tl_nla.paths import user_path

_LONGEST = 240
"""Bytes of a file's name: most systems allow 255, and what is written first has a longer one."""


def check_folder(path: str | Path) -> Path:
    """Refuse a folder that cannot be made or written to.

    Args:
        path: of the folder; it need not be there yet.

    Raises:
        InputError: saying which folder on the way is at fault.
    """
    folder = user_path(path)
    try:
        nearest = next(part for part in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(part))
        if not nearest.is_dir():
            raise InputError(f"cannot write to {str(folder)!r}: {str(nearest)!r} is no folder; give another one")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write to {str(folder)!r}: {reason}; give a folder that can be written to") from error
    return folder


def check_file(path: str | os.PathLike[str]) -> Path:
    """Refuse a file that cannot be written, or whose folder is not there; a link's is that of the file behind it."""
    file = user_path(path)
    if len(os.fsencode(file.name)) > _LONGEST:
        name = f"{file.name[:30]}…"
        raise InputError(f"cannot write {name!r}: the name is too long; give one of {_LONGEST} bytes at most")
    if file.is_dir():
        raise InputError(f"cannot write {str(path)!r}: it is a folder, give a file")
    if file.exists():  # pipes, too, which lie in no folder
        if not os.access(file, os.W_OK):
            raise InputError(f"cannot write {str(path)!r}: it may not be written; give another file")
        return file
    try:
        folder = file.resolve().parent
    except (OSError, RuntimeError) as error:  # a circle of links
        raise InputError(f"cannot write {str(path)!r}: {error}; give another file") from error
    if not folder.is_dir():
        shown = folder if file.is_symlink() else file.parent
        raise InputError(f"cannot write {str(path)!r}: there is no folder {str(shown)!r}")
    check_folder(folder)
    return file


def check_replaceable(path: str | Path, sidecar: str, known: Collection[str] = ()) -> Path:
    """Refuse a folder that cannot be replaced as a whole, or that holds what is not ours and would be lost.

    Args:
        path: of the folder; it need not be there yet, and may be empty.
        sidecar: file that tells a folder of this kind.
        known: all names that such a folder may hold; any when empty.

    Returns:
        The folder's full path.

    Raises:
        InputError: naming what would be lost, or saying why nothing can be written.
    """
    folder = user_path(path).absolute().resolve()
    check_folder(folder.parent)
    if not os.path.lexists(folder):
        return folder
    check_folder(folder)
    names = sorted(entry.name for entry in folder.iterdir())
    strange = [name for name in names if known and name not in known]
    if names and (sidecar not in names or strange):
        raise InputError(
            f"{str(path)!r} would be replaced, but holds {(strange or names)[0]!r}, which would be lost; "
            "give a folder of its own"
        )
    return folder
