"""What every figure checks before anything is computed."""

import importlib.util
from pathlib import Path

from tl_nla.errors import InputError
from tl_nla.outputs import check_file


def check_figure(path: str) -> None:
    """Refuse, before anything is computed, what cannot be drawn.

    Raises:
        InputError: when matplotlib is missing, the folder does not exist, or the ending names no format.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("--figure needs matplotlib: pip install 'tl-nla[plots]'")
    if not Path(path).absolute().parent.is_dir() or Path(path).suffix not in (".svg", ".png", ".pdf"):
        raise InputError(f"--figure {path!r}: give a file in an existing folder that ends in .svg, .png or .pdf")
    check_file(path)
