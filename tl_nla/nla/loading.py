"""Models and weights from local folders or the hub: safetensors only, no code of others."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tl_nla.errors import InputError

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
        reason = str(error).splitlines()[0]
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
        raise InputError(f"no weights at {path}; a safetensors file is needed")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({str(error).splitlines()[0]})") from error


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer in ``folder``."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"no usable tokenizer in {folder}: {str(error).splitlines()[0]}") from error


def load_causal_lm(name: str | Path, dtype: torch.dtype = torch.float32) -> Any:
    """A Hugging Face causal language model, PEFT adapters merged in.

    Args:
        name: local folder or hub id; a folder with ``adapter_config.json`` is an adapter on its base model.
        dtype: of the weights.

    Raises:
        InputError: when config or weights are missing, damaged or pickles.
    """
    from transformers import AutoModelForCausalLM

    folder = local_folder(name)
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        return _with_adapter(folder, json.loads(adapter.read_text(encoding="utf-8")), dtype)
    check_weights(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder} holds no usable language model: {str(error).splitlines()[0]}") from error
    return model.eval()


def check_weights(folder: Path) -> None:
    """Refuse folders without configuration, without safetensors, with damaged ones, or with pickles only.

    Raises:
        InputError: naming the file at fault.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"no config.json in {folder}; it is no Hugging Face model folder")
    files = [path for path in folder.glob("*.safetensors") if path.name.startswith(("model", "pytorch_model"))]
    if not files:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        found = f"only pickles ({', '.join(pickles)})" if pickles else "no weights"
        raise InputError(f"{folder} holds {found}; model.safetensors is needed")
    from safetensors import safe_open

    for path in files:
        try:
            with safe_open(path, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a whole safetensors file ({str(error).splitlines()[0]})") from error


def _with_adapter(folder: Path, settings: dict[str, Any], dtype: torch.dtype) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise InputError(f"{folder} is a PEFT adapter; install the extra: pip install tl-nla[lora]") from error
    base = settings.get("base_model_name_or_path")
    if not base:
        raise InputError(f"{folder}/adapter_config.json names no base_model_name_or_path; add the base model's folder")
    if not (folder / "adapter_model.safetensors").is_file():
        raise InputError(f"no adapter_model.safetensors in {folder}; PEFT adapters are read from safetensors only")
    read_safetensors(folder / "adapter_model.safetensors")
    return PeftModel.from_pretrained(load_causal_lm(base, dtype), str(folder)).merge_and_unload().eval()
