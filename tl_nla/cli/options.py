"""Options that several commands share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tl_nla.errors import InputError
from tl_nla.paths import user_path


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaint is one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint as an ``InputError``."""
        raise InputError(f"{message} (see {self.prog} --help)")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add ``--model`` (``tiny``, a local folder or a hub id) and ``--json FILE``."""
    parser.add_argument("--model", default="tiny", metavar="NAME", help="tiny (default), a local folder or a hub id")
    parser.add_argument("--json", type=output_file, default=None, metavar="FILE", help="write the result as JSON too")


def add_prepend_bos(parser: argparse.ArgumentParser) -> None:
    """Add ``--prepend-bos`` and ``--no-prepend-bos``."""
    parser.add_argument(
        "--prepend-bos", action=argparse.BooleanOptionalAction, default=None,
        help="put a begin token before each text, or none (default: what TransformerLens does with the model)",
    )  # fmt: skip


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add ``--seed`` for whatever the command draws at random."""
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")


def whole_number(least: int) -> Callable[[str], int]:
    """A reader of whole numbers from ``least`` on, for the type of an option."""

    def read(text: str) -> int:
        if not text.strip().lstrip("+-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more")
        return int(text)

    return read


def any_path(text: str) -> Path:
    """Read a path, ``~`` for the home folder included.

    Raises:
        argparse.ArgumentTypeError: when there is no such home folder.
    """
    try:
        return user_path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def output_file(text: str) -> Path:
    """Read a path to write to, and refuse at once what could not be written at the end.

    Raises:
        argparse.ArgumentTypeError: when the folder does not exist or the path is a folder.
    """
    path = any_path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: it is a folder, give a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: there is no folder {str(path.parent)!r}")
    return path
