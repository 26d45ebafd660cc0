"""Embedded models and the worlds that they know: plug-ins, found by name and imported when they are asked for.

A plug-in is a module with these names; the core asks for nothing else of it.

- ``WEIGHTS``: folder with ``target``, and where they exist ``av``, ``ar`` (the pair) and ``oracle``.
- ``SOURCE``: the name that its documents are asked for by, and ``documents(count, seed, start)``, which writes them.
- ``HELD_OUT_SEED``: the stream of documents that no training may read.
- ``explainer(site, grounding)``: what writes the training texts of its states (:class:`tl_nla.explainers.Explainer`).
- ``vocabulary(model, tokenizer)``: the words that labels may name.
- ``planted(count, seed)``: facts told early and needed late (:class:`tl_nla.benchmark.verbalizers.PlantedFact`).
- ``GRAMMAR``: how its explanations are taken apart and checked (:class:`tl_nla.faithfulness.grammar.ClaimGrammar`).

A named model is less: its weights come from elsewhere and it has no world of its own. Its module has these names.

- ``target_folder()``: where the weights are; it may fetch or convert them first.
- ``local_place()``: where the weights are on this machine, as a text; ``None`` where they would have to be fetched.
- ``oracle(model)``: its diff oracle, given the loaded model; ``None`` where none is installed.
- ``precision()``: the one that suits this machine, as :class:`tl_nla.model.placement.Placement` writes it.
- ``nla(model)``: the pair that was made for it, over the loaded model's weights.
- ``explainer(site)`` and ``GRAMMAR``: as above, for the explanations of that pair.
"""

import importlib
from pathlib import Path
from typing import Any

from tl_nla.errors import InputError

_MODULES = {"tiny": "tl_nla.storyworld.plugin"}
_SOURCES = {"world": "tiny"}
_NAMED = {"smollm2": "tl_nla.smollm2.plugin"}


def register(name: str, module: str, source: str | None = None) -> None:
    """Make a plug-in known.

    Args:
        name: of the embedded model.
        module: full name of the plug-in's module.
        source: name of its documents, where it writes some.
    """
    _MODULES[name] = module
    if source is not None:
        _SOURCES[source] = name


def embedded(name: Any) -> Any | None:
    """The plug-in of an embedded model; ``None`` for every other model, be it a name, a folder or an object."""
    return importlib.import_module(_MODULES[name]) if isinstance(name, str) and name in _MODULES else None


def named(name: Any) -> Any | None:
    """The plug-in of a named model whose weights come from elsewhere; ``None`` for everything else."""
    return importlib.import_module(_NAMED[name]) if isinstance(name, str) and name in _NAMED else None


def world(source: Any) -> Any | None:
    """The plug-in that writes the documents of a named source; ``None`` for files, data sets and lists."""
    return embedded(_SOURCES[source]) if isinstance(source, str) and source in _SOURCES else None


def named_models() -> list[str]:
    """Names of the models whose weights come from elsewhere."""
    return sorted(_NAMED)


def source_names() -> list[str]:
    """The named sources of documents."""
    return sorted(_SOURCES)


def part(name: str, which: str) -> Path:
    """Folder of a part of an embedded model: ``target``, ``av``, ``ar`` or ``oracle``.

    Raises:
        InputError: when the model is not embedded, or this installation lacks the part.
    """
    plugin = embedded(name)
    if plugin is None:
        raise InputError(f"no embedded model {name!r}; there are: {', '.join(sorted(_MODULES))}")
    folder: Path = plugin.WEIGHTS / which
    if not folder.is_dir():
        raise InputError(f"the embedded weights are missing from {folder}; install tl-nla again")
    return folder
