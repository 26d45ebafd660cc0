"""With what an artefact was made, saved beside it and compared when it is loaded."""

import importlib.metadata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tl_nla import __version__
from tl_nla.model.families import decoder_layers

FILE = "provenance.json"
LAYER_CONVENTION = "output of block K (Hugging Face hidden_states[K + 1])"
_LIBRARIES = ("tl-nla", "torch", "transformers", "transformer-lens")
_DECISIVE = ("layer", "layer_convention", "fingerprint")


@dataclass(frozen=True)
class Compared:
    """Two records side by side.

    Attributes:
        verdict: ``equal``; ``compatible`` where only versions or precision differ; ``different`` where the layer, the
            convention or the model does.
        differences: one line each.
    """

    verdict: str
    differences: tuple[str, ...]


def record(model: Any, layer: int | None, base: str = "") -> dict[str, Any]:
    """What an artefact was made with."""
    weight = next(model.parameters())
    return {
        "versions": versions(), "dtype": str(weight.dtype).removeprefix("torch."), "layer": layer,
        "layer_convention": LAYER_CONVENTION, "base": base, "fingerprint": fingerprint(model),
    }  # fmt: skip


def versions(libraries: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Versions of libraries, those that decide what an artefact does when none are given.

    That of tl-nla is the one that runs: a checkout may have been installed long ago under another number.
    """
    found = {}
    for name in libraries:
        try:
            found[name] = __version__ if name == "tl-nla" else importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def told(made: Mapping[str, Any]) -> str:
    """A record in one line, for cards."""
    return f"{', '.join(f'{name} {version}' for name, version in made['versions'].items())}; weights in {made['dtype']}"


def fingerprint(model: Any) -> dict[str, Any]:
    """What tells one model from another of the same width: architecture, blocks, width, vocabulary."""
    embedding = model.get_input_embeddings()
    return {
        "architecture": str(model.config.model_type), "blocks": len(decoder_layers(model)),
        "d_model": int(embedding.embedding_dim), "d_vocab": int(embedding.num_embeddings),
    }  # fmt: skip


def compare(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Compared:
    """Put a saved record beside today's."""
    lines, different = [], False
    for key in ("versions", "dtype", *_DECISIVE):
        old, new = saved.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found = [f"{name} {old.get(name)} when saved, {new.get(name)} here" for name in {**old, **new}
                     if old.get(name) != new.get(name)]  # fmt: skip
        else:
            found = [] if old == new else [f"{key} {old} when saved, {new} here"]
        lines += found
        different = different or (bool(found) and key in _DECISIVE)
    verdict = "different" if different else "compatible" if lines else "equal"
    return Compared(verdict, tuple(lines))


def compared(saved: Mapping[str, Any], now: Mapping[str, Any], title: str) -> dict[str, Any]:
    """What a loaded artefact's ``provenance`` says of how it was saved; warns where it is another model or layer."""
    if not saved:
        return {}
    found = compare(saved, now)
    if found.verdict == "different":
        warnings.warn(f"{title} is not what was saved: {'; '.join(found.differences)}", stacklevel=4)
    return {"saved": saved, "compared": found.verdict, "differences": found.differences}
