"""Model folders as transformers writes them, put in place only when they are complete."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tl_nla.model.families import is_adapted
from tl_nla.model.loading import quiet


def save_causal_lm(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a causal language model and its tokenizer; PEFT adapters are merged into a copy first.

    Args:
        model: left as it is.
        tokenizer: its tokenizer.
        folder: new or empty.
        dtype: of the saved weights; as they are when ``None``.
    """
    if is_adapted(model):
        from tl_nla.model.lora import merge_copy

        model = merge_copy(model)
    config_dtype = getattr(model.config, "dtype", None)
    try:
        with quiet():
            model.save_pretrained(folder, state_dict=_cast(model.state_dict(), dtype))
    finally:
        model.config.dtype = config_dtype  # save_pretrained writes its own there
    tokenizer.save_pretrained(folder)
    if dtype is not None:
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**config, "dtype": str(dtype).removeprefix("torch.")}, indent=2), encoding="utf-8")


def save_backbone(backbone: Any, tokenizer: Any, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a headless backbone under the keys of its causal language model (released format).

    There is no final norm and no language-model head in the file; readers replace both.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(backbone.config)
    setattr(shell, shell.base_model_prefix, backbone)
    shell.set_output_embeddings(nn.Identity())
    shell.config.architectures = [type(shell).__name__]
    save_causal_lm(shell, tokenizer, folder, dtype)


def replace_folder(new: Path, old: Path) -> None:
    """Put ``new`` in the place of ``old``; when that fails, ``old`` is back."""
    backup = old.with_name(f".{old.name}.old")
    shutil.rmtree(backup, ignore_errors=True)
    existed = old.exists()
    if existed:
        os.replace(old, backup)
    try:
        os.replace(new, old)
    except OSError:
        if existed:
            os.replace(backup, old)
        raise
    shutil.rmtree(backup, ignore_errors=True)


def _cast(state: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Floating weights in another dtype; tensors that share their memory still do, so that ties stay ties."""
    if dtype is None:
        return state
    done: dict[tuple[int, torch.Size], Tensor] = {}
    for value in state.values():
        if value.is_floating_point():
            done.setdefault((value.data_ptr(), value.shape), value.detach().to(dtype))
    return {name: done.get((value.data_ptr(), value.shape), value) for name, value in state.items()}
