"""What a command writes to: a terminal of any width and encoding, or a pipe whose reader may leave."""

import contextlib
import os
import sys
from typing import Any


def make_console(picture: bool = False) -> Any:
    """A console that goes on in silence when nobody reads its output any more, so that files are still written.

    Args:
        picture: record what is printed, at a width of its own, so that it can be saved as a picture.
    """
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            drop_output()

    return Piped(record=picture, width=150 if picture else None)


def make_table(title: str | None = None, **settings: Any) -> Any:
    """An empty table as all commands show them."""
    from rich import box
    from rich.table import Table

    return Table(title=title, box=box.SIMPLE_HEAD, header_style="bold", **settings)


def drop_output() -> None:
    """Let what is written from here on, and what is flushed at the end, go nowhere."""
    with contextlib.suppress(OSError, ValueError):  # an output without a file, as in tests
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def write_anything() -> None:
    """Show signs that the terminal's encoding lacks as escapes instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
