"""Names and modules that a package imports when they are first asked for, so that importing the package stays light."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any


def lazy(package: str, homes: Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """A package's ``__getattr__``: gives public names and the package's own modules.

    Args:
        package: full name of the package, its ``__name__``.
        homes: public name -> the module that it is in.
    """
    known = dict(homes or {})

    def get(name: str) -> Any:
        if name in known:
            return getattr(importlib.import_module(known[name]), name)
        if name.startswith("_") or importlib.util.find_spec(f"{package}.{name}") is None:
            told = f"; public names: {', '.join(known)}" if known else ""
            raise AttributeError(f"module {package!r} has no attribute {name!r}{told}")
        return importlib.import_module(f"{package}.{name}")

    return get
