"""Garbage collections that look at new objects only, while very many small ones are made."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_new_collected() -> Iterator[None]:
    """Leave what exists already out of garbage collections, until the end.

    A report of many positions makes some hundred thousand objects. Python then goes through all objects of the process,
    which takes as long as a forward pass of a small model. The collector stays on, and what is made meanwhile is
    collected as ever. Garbage that was there before is collected later.

    Nothing is done where something is frozen already, by the caller or by another thread's report.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
