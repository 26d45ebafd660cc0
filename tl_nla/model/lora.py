"""PEFT adapters of released checkpoints: put on their base, merged into it, switched off.

PEFT is imported only here, and only when an adapter is met.
"""

import copy
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.cut import cut_backbone
from tl_nla.model.families import is_adapted, without_adapter
from tl_nla.model.files import read_json, read_safetensors

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."
_PART = re.compile(r"^(.+)\.(lora_[A-Za-z_]+)(?:\.(?!weight$)\w+)?(\.weight)?$")
_IN_BLOCK = re.compile(r"(?:^|\.)((?:layers|h|blocks)\.\d+\..+)$")


def adapter_base(folder: Path) -> Path | str:
    """An adapter's base model: a folder inside the adapter's own, another folder, or a hub id.

    Raises:
        InputError: when the adapter's settings do not name it.
    """
    base = read_json(folder / SETTINGS).get("base_model_name_or_path")
    if not base:
        raise InputError(f"{folder / SETTINGS} names no base_model_name_or_path; add the base model's folder or hub id")
    inside = folder / str(base)
    return inside if inside.is_dir() else str(base)


def put_adapter(model: Any, folder: Path) -> Any:
    """A base model wrapped with an adapter, in evaluation mode, which can be switched off again.

    Args:
        model: the adapter's base; its modules are changed in place.
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``.

    Raises:
        InputError: when PEFT is not installed, or the adapter does not fit its base.
    """
    weights = read_safetensors(folder / WEIGHTS)
    peft = _peft(folder)
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / SETTINGS} holds no settings of an adapter: {_one_line(error)}") from error
    return _put(model, folder, config, weights)


def merge_adapter(model: Any, folder: Path, blocks: int | None = None, keep_norm: bool = False) -> Any:
    """A base model with an adapter merged in.

    Args:
        model: the adapter's base, see :func:`adapter_base`; changed in place.
        folder: as of :func:`put_adapter`.
        blocks: cut the base to its first blocks before the adapter goes on, and give the backbone (reconstructor).
        keep_norm: with ``blocks``, keep the final norm.

    Raises:
        InputError: when PEFT is not installed, or the adapter does not fit its base.
    """
    read_safetensors(folder / WEIGHTS)  # before the base is changed
    if blocks is not None:
        model = cut_backbone(model, blocks, copy=False, keep_norm=keep_norm)
    return put_adapter(model, folder).merge_and_unload().eval()


def merge_tensors(model: Any, folder: Path, weights: dict[str, Tensor], settings: dict[str, Any]) -> Any:
    """A model with an adapter merged in that was saved without settings of PEFT's.

    Args:
        model: its base; changed in place.
        folder: named in messages.
        weights: ``lora_A`` and ``lora_B`` of each module.
        settings: of ``peft.LoraConfig``; ``target_modules`` are those that the weights name.

    Raises:
        InputError: when PEFT is not installed, or the adapter does not fit its base.
    """
    peft = _peft(folder)
    names = {match[1] for match in map(_PART.match, fit_names(model, weights, folder)) if match}
    config = peft.LoraConfig(target_modules=sorted(name.removeprefix(_PREFIX) for name in names), **settings)
    return _put(model, folder, config, weights).merge_and_unload().eval()


def merge_copy(model: Any) -> Any:
    """A plain model from a PEFT-wrapped one, which is left as it is; any other model is given back unchanged."""
    return copy.deepcopy(model).merge_and_unload() if is_adapted(model) else model


def adapter_blocks(weights: dict[str, Tensor], where: Path) -> int:
    """How many blocks an adapter reaches: one more than the highest block index in its weights."""
    indices = [int(part) for key in weights for part in key.split(".") if part.isdigit()]
    if not indices:
        raise InputError(f"{where} adapts no block; the number of blocks cannot be told")
    return max(indices) + 1


def fit_names(model: nn.Module, weights: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Tensors of an adapter under the names that a model's modules have.

    Trained inside a model that sees images, or compiled, or as the backbone alone, an adapter names the same modules
    differently. PEFT would load nothing of it and say nothing.

    Raises:
        InputError: when a tensor has no module.
    """
    known = {_tail(name): name for name, _ in model.named_modules()}
    found, left = {}, []
    for key, value in weights.items():
        match = _PART.match(key.replace("_orig_mod.", ""))
        if match is None:
            found[key] = value
        elif _tail(match[1]) in known:
            found[f"{_PREFIX}{known[_tail(match[1])]}.{match[2]}{match[3] or ''}"] = value
        else:
            left.append(key)
    if left:
        raise InputError(
            f"the adapter in {folder} does not fit its base; {len(left)} of {len(weights)} tensors have no module "
            f"there ({left[0]})"
        )
    return found


def _tail(name: str) -> str:
    """A module's name from its block on; the last part of it outside of the blocks."""
    match = _IN_BLOCK.search(name)
    return match[1] if match else name.rsplit(".", 1)[-1]


def _peft(folder: Path) -> Any:
    try:
        import peft
    except ImportError as error:
        raise InputError(f"{folder} is a PEFT adapter; install the extra: pip install 'tl-nla[lora]'") from error
    return peft


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Leave out what PEFT says of itself while it puts adapters on: nothing that a user could do anything about."""
    with warnings.catch_warnings():
        # It corrects itself at GPT-2's transposed layers, and says so for each of them.
        warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)
        # It asks transformers by an old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _put(model: nn.Module, folder: Path, config: Any, weights: dict[str, Tensor]) -> Any:
    peft = _peft(folder)
    weights = fit_names(without_adapter(model), weights, folder)
    try:
        with quiet_peft():
            adapted = peft.PeftModel(model, config)
        outcome: Any = peft.set_peft_model_state_dict(adapted, weights)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(f"the adapter in {folder} does not fit its base: {_one_line(error)}") from error
    left = list(outcome.unexpected_keys) + [key for key in outcome.missing_keys if "lora_" in key]
    if left:
        raise InputError(f"the adapter in {folder} does not fit its base; {len(left)} tensors differ ({left[0]})")
    return adapted.requires_grad_(False).eval()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
