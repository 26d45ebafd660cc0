"""Old names that the docs once mentioned still work for one release: each warns, and names the new one.

A finder on ``sys.meta_path`` gives the module at its new place when it is asked for under its old name. Packages that
gave a name out before ask :func:`old_name` for it. Studies are no part of the installed package, so that their old
names only say where they are now. This module and its uses go with the next release.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from types import ModuleType
from typing import Any

_PACKAGES = {"tl_nla.evaluation": "tl_nla.benchmark", "tl_nla.tensorboard": "tl_nla.reports.tensorboard"}
_MOVED = (  # where, where now, which modules
    ("lightning_modules", "lightning_modules.data", "oracle_data resumable_loader"),
    ("lightning_modules", "lightning_modules.training", "diff muon nla_training precision source_encoder steering"),
    ("lightning_modules", "lightning_modules.callbacks", "reports"),
    ("tl_nla.attribution", "tl_nla.benchmark", "words_only"),
    ("tl_nla", "tl_nla.model", "hooks positions reading sites targets"),
    ("tl_nla.nla", "tl_nla", "sharing"),
)
_STUDIES = (  # where, which study now, which modules
    ("lightning_modules", "faithfulness", "withholding faithfulness_seeds"),
    ("lightning_modules", "steganography", "stego_sweep trained_references"),
    ("lightning_modules", "training", "studies ordered_study confirm_training"),
    ("lightning_modules", "injection", "injection_study"),
    ("lightning_modules", "layers_matrix", "layers_study"),
    ("lightning_modules", "contributions", "words_only"),
    ("lightning_modules", "write_rewards", "write_rewards"),
    ("tl_nla.evaluation", "steganography", "steganography_suite"),
    ("tl_nla.faithfulness", "steganography", "steganographer"),
)
_NAMES = (  # which package, where now, which names
    ("tl_nla.attribution", "tl_nla.reports", "layer_contributions"),
    ("tl_nla.data", "tl_nla.storyworld.explained", "explain_states"),
    ("tl_nla.data", "tl_nla.storyworld.documents", "world_documents"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.codes", "refitted_errors"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.detectors", "DETECTORS"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.trust", "pair_terms"),
    ("tl_nla.steering", "tl_nla.steering.leaks", "leak only"),
    ("tl_nla.steering", "tl_nla.steering.judges", "word_distance repetition"),
)
_RENAMED = {
    "tl_nla.nla.contract": "tl_nla.nla.formats.sidecar",
    "tl_nla.nla.released": "tl_nla.nla.formats.parts",
}
MODULES = {f"{old}.{name}": f"{new}.{name}" for old, new, names in _MOVED for name in names.split()} | _RENAMED
STUDIES = {f"{old}.{name}": study for old, study, names in _STUDIES for name in names.split()}
NAMES = {(package, name): new for package, new, names in _NAMES for name in names.split()}


def new_place(name: str) -> str | None:
    """The new full name of a module, or ``None`` where it did not move."""
    if name in MODULES:
        return MODULES[name]
    for old, new in _PACKAGES.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


def old_name(package: str, name: str) -> Any:
    """What a package gave out under a name before.

    Raises:
        AttributeError: when it never did.
    """
    new = NAMES.get((package, name))
    if new is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    _warn(f"{package}.{name}", f"{new}.{name}", 4)
    return getattr(importlib.import_module(new), name)


def _warn(old: str, new: str, level: int) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes with the next release", DeprecationWarning, level)


class _Alias(importlib.abc.Loader):
    """Gives the module at its new place, unchanged."""

    def __init__(self, new: str) -> None:
        self.new = new
        self.spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module itself; its own spec is kept aside, since the import system puts the old name's there."""
        module = importlib.import_module(self.new)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run again."""
        module.__spec__ = self.spec


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules by their old names."""

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The alias of a module that moved; ``None`` for every other."""
        if name in STUDIES:
            study = STUDIES[name]
            raise ModuleNotFoundError(
                f"{name} is part of the study {study!r} now, which a checkout holds: docs/studies/{study}", name=name
            )
        new = new_place(name)
        if new is None:
            return None
        _warn(name, new, 3)
        return importlib.machinery.ModuleSpec(name, _Alias(new), is_package=name in _PACKAGES)


def install() -> None:
    """Put the finder first; once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
