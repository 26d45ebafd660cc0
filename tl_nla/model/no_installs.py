"""Nothing is installed behind a user's back.

TransformerLens runs ``pip install torchvision`` by itself when it wraps a model that also sees images and finds no
torchvision. It goes on without the image processor where that fails, which is all that reading texts needs.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any
from unittest import mock

_CALLS = ("check_call", "check_output", "call", "run")
_one_at_a_time = RLock()


@contextmanager
def nothing_installed() -> Iterator[None]:
    """Commands that install packages fail in this context instead of being run; all others are run as ever."""
    with _one_at_a_time, ExitStack() as stack:
        for name in _CALLS:
            stack.enter_context(mock.patch.object(subprocess, name, _guarded(getattr(subprocess, name))))
        yield


def _guarded(call: Callable[..., Any]) -> Callable[..., Any]:
    def function(command: Any, *args: Any, **settings: Any) -> Any:
        if _installs(command):
            raise RuntimeError(f"{command} was not run: nothing is installed while a model is loaded")
        return call(command, *args, **settings)

    return function


def _installs(command: str | bytes | Sequence[Any]) -> bool:
    parts = command.split() if isinstance(command, str) else command
    if isinstance(parts, bytes):
        return False
    words = [str(part) for part in parts]
    return "install" in words and any("pip" in word or word in ("uv", "conda") for word in words)
