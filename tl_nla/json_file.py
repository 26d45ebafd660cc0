"""JSON files that are whole or not there."""

import json
import os
from typing import Any

from tl_nla.errors import InputError
from tl_nla.paths import user_path
from tl_nla.text_file import write_text


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
    write_text(text, target)
