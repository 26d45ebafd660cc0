"""Which part of a capture this process makes, where several processes share one folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tl_nla.errors import InputError


@dataclass(frozen=True)
class Share:
    """One process among several.

    Attributes:
        number: of this process, from 0.
        count: of all of them.
        wait: returns when all processes have called it.
    """

    number: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise InputError(f"number is {self.number} of {self.count} processes; allowed: 0 to {self.count - 1}")

    def has(self, run: int) -> bool:
        """Whether a run of documents is captured here."""
        return run % self.count == self.number


_SHARE: ContextVar[Share] = ContextVar("share")


def own_share() -> Share:
    """The share of this process; all of it where nothing else was said."""
    return _SHARE.get(Share())


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Captures inside make a share of the runs and wait for the others."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)
