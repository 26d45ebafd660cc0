"""Lines of UTF-8 text files and JSON-lines files, one at a time.

A line ends at a line feed, a carriage return or both, and nowhere else. A string in JSON may hold U+2028 and other
characters at which ``str.splitlines`` splits. A byte-order mark at the start of a file is no part of the text.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from tl_nla.errors import InputError
from tl_nla.model.text import checked
from tl_nla.paths import user_path

JSON_SUFFIXES = (".jsonl", ".json")
_MARK = "\ufeff"


def text_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a file, each with its line feed.

    Raises:
        InputError: when there is no such file, it cannot be read, or a line is not UTF-8.
    """
    try:
        file = user_path(path).open(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError as error:
        raise InputError(f"no file {str(path)!r}; give the path of a UTF-8 text or JSON-lines file") from error
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}; give a UTF-8 text file") from error
    with file:
        for number, line in enumerate(file, 1):
            yield checked(line.removeprefix(_MARK) if number == 1 else line, f"{path}, line {number}")


def paragraphs(path: str | os.PathLike[str]) -> Iterator[str]:
    """The paragraphs of a text file: what stands between empty lines."""
    gathered: list[str] = []
    for line in text_lines(path):
        if line != "\n":
            gathered.append(line)
            continue
        if text := "".join(gathered).strip():
            yield text
        gathered = []
    if text := "".join(gathered).strip():
        yield text


def json_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """What each line of a JSON-lines file holds, empty lines left out, with the name of its place.

    Raises:
        InputError: at a line that is no JSON.
    """
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            yield where, json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = getattr(error, "msg", "too many brackets in each other")
            raise InputError(f"{where}: not JSON ({reason}); one JSON object a line") from error


def text_field(row: Any, field: str, where: str) -> str:
    """The text in a field of a row.

    Raises:
        InputError: when there is no such field, or it holds no whole text, such as ``null``.
    """
    if not isinstance(row, Mapping):
        raise InputError(f"{where} holds no object but a {type(row).__name__}; give one with the field {field!r}")
    if field not in row:
        names = ", ".join(map(str, list(row)[:5]))
        raise InputError(f"{where} has no field {field!r}; it has {names or 'none'}")
    if row[field] is None:
        raise InputError(f"{where}: the field {field!r} is null; give a text, or leave the row out")
    return checked(row[field], f"{where}: the field {field!r}")
