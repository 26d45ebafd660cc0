"""Paths as people write them."""

import os
from pathlib import Path

from tl_nla.errors import InputError


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path with a leading ``~`` or ``~name`` replaced by that user's home folder.

    A shell does so for words that start with ``~``, but not in quotes, behind ``=``, in YAML files or in Python.

    Raises:
        InputError: when it is no path, or the user has no home folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"a path is {type(path).__name__} ({path!r}); give a string or a pathlib.Path")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{str(path)!r} names the home folder of a user who has none; write the whole path") from error


def user_path_text(path: str | os.PathLike[str]) -> str:
    """The same as text, for what takes no ``pathlib.Path``."""
    return str(user_path(path))
