"""Numbers that are given: whole and large enough, or finite."""

import math
from numbers import Integral, Real
from typing import Any

from tl_nla.errors import InputError


def check_count(name: str, value: Any, least: int | None = 1) -> int:
    """A whole number that is large enough; of any size when ``least`` is ``None``.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} is {value!r}; give a whole number")
    if least is not None and value < least:
        raise InputError(f"{name} is {value}; at least {least} is needed")
    return int(value)


def check_counts(config: Any, *names: str) -> None:
    """:func:`check_count` of those of a configuration's fields that are given."""
    for name in names:
        if getattr(config, name) is not None:
            check_count(name, getattr(config, name))


def check_number(name: str, value: Any, least: float = -math.inf) -> float:
    """A finite number that is large enough.

    Raises:
        InputError: for anything else, NaN and infinity included.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} is {value!r}; give a number")
    if not math.isfinite(value) or value < least:
        allowed = "a finite number" if least == -math.inf else f"{least:g} or above"
        raise InputError(f"{name} is {value}; allowed: {allowed}")
    return float(value)
