"""A GGUF file as a folder in the Hugging Face format, put in place only when it is complete."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from tl_nla.errors import InputError
from tl_nla.model.files import first_line
from tl_nla.model.loading import quiet
from tl_nla.model.saving import save_causal_lm
from tl_nla.outputs import check_folder

_NOT_OF_THE_MODEL = ("quantization_config", "_name_or_path", "architectures", "transformers_version")
"""Settings of the file that the weights were read from; the object they make refuses to be saved."""


def convert_gguf(packed: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as safetensors, in float32: quantised weights are no bfloat16 numbers.

    Another process may do the same at the same time; the first one to finish makes the folder.

    Args:
        packed: the GGUF file.
        folder: to be made; what stands there is left alone.

    Raises:
        InputError: without the package ``gguf``, for a damaged file, or a folder that cannot be written.
    """
    if importlib.util.find_spec("gguf") is None:
        raise InputError(f"{packed} cannot be read without the package gguf; run `make smollm2`, or pip install gguf")
    check_folder(folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model, tokenizer = _unpacked(packed)
        save_causal_lm(model, tokenizer, half)
        os.replace(half, folder)
    except OSError as error:
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{packed} could not be converted into {folder} ({first_line(error)}); make room there, or set "
                "XDG_CACHE_HOME to a folder that can be written to"
            ) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _unpacked(packed: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, the model as transformers makes it from a clean configuration."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name, trust_remote_code=False)
            read: Any = AutoModelForCausalLM.from_pretrained(
                packed.parent, gguf_file=packed.name, dtype=torch.float32, trust_remote_code=False
            )
    except Exception as error:  # whatever gguf and transformers meet in a damaged file
        raise InputError(f"{packed} is no whole GGUF file ({first_line(error)}); install its package again") from error
    settings = {name: value for name, value in read.config.to_dict().items() if name not in _NOT_OF_THE_MODEL}
    with torch.device("meta"):
        model = type(read)(type(read.config)(**settings))
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = read.generation_config
    return model, tokenizer
