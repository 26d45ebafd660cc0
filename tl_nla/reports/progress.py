"""A bar for what takes long: the stage, the share that is done, and the time that is left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tl_nla.reports.report_config import Tell

_PATIENCE = 2.0
"""Seconds that pass before a bar is shown where nobody asked for one."""


@contextmanager
def progress(console: Any = None, patience: float = 0.0) -> Iterator[Tell]:
    """Show a bar while something runs; nothing where the output is no terminal.

    Args:
        console: a rich console; one on the standard error stream when ``None``.
        patience: seconds before the bar is shown.

    Yields:
        A function to be called with the name of each stage and the share of the whole that is done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True) if console is None else console
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    begun, task, shown = time.monotonic(), bar.add_task("reading", total=1.0), False

    def tell(stage: str, share: float) -> None:
        nonlocal shown
        bar.update(task, description=stage, completed=share)
        if not shown and time.monotonic() - begun >= patience:
            bar.start()
            shown = True

    try:
        if patience <= 0:
            tell("reading", 0.0)
        yield tell
    finally:
        if shown:
            bar.stop()


@contextmanager
def patient() -> Iterator[Tell]:
    """The bar of a library call: shown after two seconds, on a terminal whose user is at it."""
    if not (sys.stderr is not None and sys.stderr.isatty()):
        yield lambda stage, share: None
        return
    with progress(patience=_PATIENCE) as tell:
        yield tell
