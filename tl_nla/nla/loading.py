"""Models and weights from local folders or the hub: safetensors only, no code of others."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.nla.families import final_norm_name, text_backbone, text_causal_lm

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def local_folder(name: str | Path) -> Path:
    """The folder itself, or the hub repository's files downloaded to the cache.

    Raises:
        InputError: when it is neither an existing folder nor a reachable hub id.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists() or str(name).startswith((".", "/", "~")):
        raise InputError(f"{str(name)!r} is no folder; give a folder with config.json and *.safetensors, or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.yaml", "*.safetensors", "*.txt", "*.model", "*.jinja"]
        return Path(snapshot_download(str(name), allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = _first_line(error)
        raise InputError(f"{str(name)!r} is no local folder and could not be had from the hub: {reason}") from error


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of one file.

    Raises:
        InputError: when the file is missing, damaged, or a pickle.
    """
    path = Path(path)
    if path.suffix in _PICKLES:
        raise InputError(f"{path} is a pickle; only safetensors are read (convert it with safetensors' save_file)")
    if not path.is_file():
        pickles = [other.name for other in path.parent.glob(f"{path.stem}.*") if other.suffix in _PICKLES]
        beside = f" ({', '.join(pickles)} is a pickle, which is never read)" if pickles else ""
        raise InputError(f"no weights at {path}{beside}; a safetensors file is needed")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({_first_line(error)})") from error


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer in ``folder``."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"no usable tokenizer in {folder}: {_first_line(error)}") from error


def load_causal_lm(name: str | Path, dtype: torch.dtype | None = None, headless: bool = False) -> Any:
    """A Hugging Face causal language model from safetensors, PEFT adapters merged in.

    Args:
        name: local folder or hub id; a folder with ``adapter_config.json`` is an adapter on its base model.
        dtype: of the weights; as stored when ``None``.
        headless: the folder is a reconstructor's, which has neither final norm nor language-model head.

    Raises:
        InputError: when config or weights are missing, damaged, incomplete or pickles.
    """
    folder = local_folder(name)
    if (folder / "adapter_config.json").is_file():
        from tl_nla.nla.lora import merged_adapter

        return merged_adapter(folder, dtype)
    from transformers import AutoModelForCausalLM

    check_weights(folder)
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), dtype=dtype or "auto", use_safetensors=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder} holds no usable language model: {' '.join(str(error).split())[:300]}") from error
    model, info = loaded
    _check_complete(folder, model, set(info["missing_keys"]), headless)
    return text_causal_lm(model).eval()


def check_weights(folder: Path) -> None:
    """Refuse folders without configuration, without safetensors, with damaged ones, or with pickles only.

    Raises:
        InputError: naming the file at fault.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"no config.json in {folder}; it is no Hugging Face model folder")
    files = [path for path in folder.glob("*.safetensors") if path.name.startswith("model")]
    if not files:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        found = f"only pickles ({', '.join(pickles)}), which are never read" if pickles else "no weights"
        raise InputError(f"{folder} holds {found}; model.safetensors is needed")
    for path in files:
        try:
            with safe_open(path, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a whole safetensors file ({_first_line(error)})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: when it is missing, no JSON, or no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {_first_line(error)}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}; it must be an object")
    return found


def _check_complete(folder: Path, model: Any, missing: set[str], headless: bool) -> None:
    """Nothing may be left at the random values that transformers gives to weights that it did not find."""
    allowed: tuple[nn.Module, ...] = ()
    if headless:
        backbone = text_backbone(model)
        allowed = (getattr(backbone, final_norm_name(backbone)), model.get_output_embeddings())
    names = {id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=False)}
    missing -= {names[id(parameter)] for module in allowed for parameter in module.parameters()}
    if missing:
        some = ", ".join(sorted(missing)[:3])
        raise InputError(f"the weights in {folder} lack {len(missing)} tensors ({some}); the export is incomplete")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and reports of transformers while it loads or saves."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
