"""Settings in groups: functions whose keywords of the last release still work, each with a warning.

A function with many settings takes them as a few frozen dataclasses. With :func:`grouped`, callers may go on giving a
field of such a group as a keyword of its own for one release.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def grouped(order: Sequence[str] = (), **groups: type) -> Callable[[Function], Function]:
    """Accept the fields of these dataclasses as keywords, too.

    Args:
        order: names of the old positional arguments from the first group's place on, where there were any.
        groups: parameter -> its dataclass, which needs a default for every field.

    Example:
        >>> @grouped(rates=Rates)
        ... def train(model, rates=Rates()): ...
        >>> train(model, learning_rate=1e-3)  # DeprecationWarning: give rates=Rates(learning_rate=...)
    """
    homes = {field.name: name for name, kind in groups.items() for field in fields(kind)}

    def wrap(function: Function) -> Function:
        own = inspect.signature(function).parameters
        first = min(list(own).index(name) for name in groups)

        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            old = {name: given.pop(name) for name in list(given) if name in homes and name not in own}
            if order and len(args) > first and not isinstance(args[first], (*groups.values(), type(None))):
                behind = dict(zip(order, args[first:], strict=False))
                args = args[:first]
                old = {**{name: value for name, value in behind.items() if name in homes}, **old}
                given |= {name: value for name, value in behind.items() if name not in homes}
            for group in {homes[name]: None for name in old}:
                values = {name: value for name, value in old.items() if homes[name] == group}
                _warn(group, groups[group], values, function.__qualname__)
                base = given.get(group)
                given[group] = replace(groups[group]() if base is None else base, **values)
            return function(*args, **given)

        call.__grouped__ = {name: homes[name] for name in homes if name not in own}  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return wrap


def homes_of(function: Any) -> dict[str, str]:
    """Old flat settings of a class or function, and the group that each is in now."""
    found: dict[str, str] = getattr(function, "__grouped__", None) or {}
    for kind in getattr(function, "__mro__", ()):
        found = getattr(kind.__dict__.get("__init__"), "__grouped__", {}) | found
    return found


def regrouped(function: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a configuration file with old flat names put into their groups, with a warning.

    Args:
        function: a class or function made by :func:`grouped`; any other leaves the settings as they are.
        settings: by name.
    """
    homes = homes_of(function)
    found = {name: value for name, value in settings.items() if name not in homes}
    for name, value in settings.items():
        if name in homes:
            found[homes[name]] = {**(found.get(homes[name]) or {}), name: value}
            _told(f"{name} of {function.__name__} is now {homes[name]}.{name}", 3)
    return found


def _warn(group: str, kind: type, values: Mapping[str, Any], where: str) -> None:
    told = ", ".join(f"{name}=..." for name in values)
    _told(f"{where} takes {group}={kind.__name__}({told}); {', '.join(values)} alone goes with the next release", 4)


def _told(message: str, level: int) -> None:
    warnings.warn(message, DeprecationWarning, level)
