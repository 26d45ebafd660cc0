"""Command lines and YAML of the last release: flat settings are put into the groups that they are in now.

This module goes with the next release, together with :mod:`tl_nla._grouped`.
"""

import importlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tl_nla._grouped import homes_of, regrouped

_PARTS = ("model", "data")
_CONFIG = ("-c", "--config")


@contextmanager
def translated_arguments(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Arguments with old flat names such as ``--model.init_args.kl_weight`` in their groups, those of files too.

    A configuration file with old names is replaced by a translated copy, which lives as long as the context.
    """
    kinds = {part: _class(_class_path(arguments, part)) for part in _PARTS}
    with tempfile.TemporaryDirectory(prefix="tl-nla-") as scratch:
        found: list[str] = []
        for argument in arguments:
            name, equals, value = argument.partition("=")
            given = value if equals and name in _CONFIG else argument if found and found[-1] in _CONFIG else None
            if given is not None:
                new = _translated_file(Path(given), Path(scratch) / f"{len(found)}.yaml")
                found.append(f"{name}={new}" if equals else new)
            else:
                found.append(_translated_name(name, kinds) + equals + value)
        yield found


def _translated_name(name: str, kinds: Mapping[str, Any]) -> str:
    for part, kind in kinds.items():
        for prefix in (f"--{part}.init_args.", f"--{part}."):
            setting = name.removeprefix(prefix)
            group = homes_of(kind).get(setting) if kind is not None and name.startswith(prefix) else None
            if group is not None:
                new = f"{prefix}{group}.{setting}"
                told = f"{name} is now {new}; the old name goes with the next release"
                warnings.warn(told, DeprecationWarning, 2)
                return new
    return name


def _translated_file(file: Path, copy: Path) -> str:
    config = _read(file)
    new = translated(config)
    if new == config:
        return str(file)
    copy.write_text(yaml.safe_dump(new, sort_keys=False), encoding="utf-8")
    return str(copy)


def translated(config: Any) -> Any:
    """A configuration with old flat settings of its model and data in their groups.

    Args:
        config: what a YAML file holds; anything but a mapping with a class stays as it is.
    """
    if not isinstance(config, dict):
        return config
    found = dict(config)
    for part in _PARTS:
        chosen = found.get(part)
        if isinstance(chosen, dict) and isinstance(chosen.get("init_args"), dict):
            kind = _class(chosen.get("class_path"))
            if kind is not None:
                found[part] = {**chosen, "init_args": regrouped(kind, chosen["init_args"])}
    return found


def _class_path(arguments: Sequence[str], part: str) -> Any:
    """The class that a command line chooses: given itself, or in its last configuration file."""
    path: Any = None
    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        value = value or (arguments[place + 1] if place + 1 < len(arguments) else "")
        if name in (f"--{part}", f"--{part}.class_path"):
            return value
        if name in _CONFIG and Path(value).is_file():
            path = _told(Path(value), part) or path
    return path


def _told(file: Path, part: str) -> Any:
    config = _read(file)
    chosen = config.get(part) if isinstance(config, dict) else None
    return chosen.get("class_path") if isinstance(chosen, dict) else None


def _read(file: Path) -> Any:
    """What a YAML file holds; ``None`` where it cannot be read, about which jsonargparse complains later."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None


def _class(path: Any) -> Any:
    """One of our classes by its path or bare name; ``None`` for any other."""
    package, _, name = str(path).rpartition(".")
    if package.partition(".")[0] not in ("", "lightning_modules"):
        return None
    try:
        return getattr(importlib.import_module(package or "lightning_modules"), name, None)
    except ImportError:
        return None
