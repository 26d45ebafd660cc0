"""How far a long capture is: its caller listens, and the command line shows a bar with the time left."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Tell = Callable[[str, int, int], None]
"""Takes what is going on, how much of it is done, and how much there is (0 where that is not known)."""

T = TypeVar("T")
_listener: "ContextVar[Tell | None]" = ContextVar("listener", default=None)
_LINE_EVERY = 30.0


def tell(what: str, done: int = 0, total: int = 0) -> None:
    """Tell the listener what is going on."""
    listener = _listener.get()
    if listener is not None:
        listener(what, done, total)


def who_listens() -> Tell | None:
    """The listener of now, for what is given one of its own; :func:`tell` itself would call itself without end."""
    return _listener.get()


def told(batches: Sequence[Sequence[T]], what: str) -> Iterator[Sequence[T]]:
    """Batches one after the other; who listens hears of the items done.

    Args:
        batches: of items.
        what: is done with them, such as ``"reading documents"``.
    """
    total, done = sum(map(len, batches)), 0
    tell(what, 0, total)
    for batch in batches:
        yield batch
        done += len(batch)
        tell(what, done, total)


def in_turn(calls: Sequence[Callable[[], T]], what: str) -> list[T]:
    """What functions give that are called one after the other; who listens hears how many are done."""
    return [call() for (call,) in told([[call] for call in calls], what)]


@contextmanager
def listening(listener: Tell | None) -> Iterator[None]:
    """Let a function hear of what goes on inside.

    Example:
        >>> with listening(lambda what, done, total: print(what, done, total)):
        ...     data.setup()
    """
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def progress_bar() -> Iterator[None]:
    """A bar on the terminal's error output, or a line every half minute where that is a file.

    Where somebody listens already, nothing is shown.
    """
    from rich import progress
    from rich.console import Console

    if _listener.get() is not None:
        yield
        return
    console = Console(stderr=True, force_jupyter=False)  # in a notebook each line would be a display of its own
    if not console.is_terminal:
        with listening(Lines(console)):
            yield
        return
    shown = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
             progress.TaskProgressColumn(), progress.TimeRemainingColumn())  # fmt: skip
    with progress.Progress(*shown, console=console, transient=True) as bar, listening(_Bar(bar)):
        yield


class _Bar:
    """One bar for each thing that goes on; what is done leaves its place to the next."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.tasks = bar, dict[str, Any]()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self.tasks:
            for task in self.bar.tasks:
                self.bar.update(task.id, visible=task.total is not None and not task.finished)
            self.tasks[what] = self.bar.add_task(what, total=total or None)
        elif done == 0:
            self.bar.reset(self.tasks[what])  # so that the time left is that of this time
        self.bar.update(self.tasks[what], completed=done, total=total or None, visible=True)


class Lines:
    """A line when something begins for the first time, one every half minute, and one at its end if it took so long.

    Args:
        console: of rich, that the lines go to.
        ends: whether an end has a line however soon it comes.
    """

    def __init__(self, console: Any, ends: bool = False) -> None:
        self.console, self.ends, self.shown = console, ends, time.monotonic() - _LINE_EVERY
        self.begun = dict[str, tuple[float, int]]()  # when each thing was first heard of, and how much was done then

    def __call__(self, what: str, done: int, total: int) -> None:
        """Write a line where one is due."""
        now, known = time.monotonic(), what in self.begun
        if done == 0:  # the same thing may go on a second time
            self.begun[what] = now, 0
        begun, before = self.begun.setdefault(what, (now, done))
        ended = 0 < total == done and (self.ends or now - begun >= _LINE_EVERY)
        if known and not ended and now - self.shown < _LINE_EVERY:
            return
        self.shown = now
        left = f", about {(now - begun) / (done - before) * (total - done):.0f} s left" if before < done < total else ""
        line = f"{what}: {done} of {total} ({done / total:.0%}){left}" if total else f"{what}: {done}" if done else what
        self.console.print(line, highlight=False, markup=False)
