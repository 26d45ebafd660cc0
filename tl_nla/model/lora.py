"""PEFT adapters of the NLA reimplementations: merged when read, written beside the reconstructor's head and sidecar.

PEFT is imported only here, and only when an adapter is met.
"""

import copy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.cut import cut_backbone
from tl_nla.model.families import is_adapted, text_backbone
from tl_nla.model.files import read_json, read_safetensors

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
AR_HEAD, AR_SETTINGS = "ar_lora_value_head.safetensors", "ar_meta.json"
_PREFIX = "base_model.model."


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


def merge_adapter(model: Any, folder: Path, blocks: int | None = None, keep_norm: bool = False) -> Any:
    """A base model with an adapter merged in.

    Args:
        model: the adapter's base, see :func:`adapter_base`; changed in place.
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``.
        blocks: cut the base to its first blocks before the adapter goes on, and give the backbone (reconstructor).
        keep_norm: with ``blocks``, keep the final norm.

    Raises:
        InputError: when PEFT is not installed, or the adapter does not fit its base.
    """
    weights = read_safetensors(folder / WEIGHTS)
    if blocks is None:
        return _merge(model, folder, weights).eval()
    backbone = cut_backbone(model, blocks, copy=False, keep_norm=keep_norm)
    targets = {key.removeprefix(_PREFIX).split(".lora_")[0] for key in weights}
    if targets <= {name for name, _ in backbone.named_modules()}:
        return _merge(backbone, folder, weights).eval()
    return text_backbone(_merge(model, folder, weights)).eval()


def merge_copy(model: Any) -> Any:
    """A plain model from a PEFT-wrapped one, which is left as it is; any other model is given back unchanged."""
    return copy.deepcopy(model).merge_and_unload() if is_adapted(model) else model


def adapter_blocks(folder: Path) -> int:
    """How many blocks an adapter reaches: one more than the highest block index in its weights."""
    indices = [
        int(part) for key in read_safetensors(folder / WEIGHTS) for part in key.split(".") if part.isdigit()
    ]  # fmt: skip
    if not indices:
        raise InputError(f"{folder / WEIGHTS} adapts no block; the number of blocks cannot be told")
    return max(indices) + 1


def _merge(model: nn.Module, folder: Path, weights: dict[str, Tensor]) -> Any:
    try:
        from peft import PeftConfig, PeftModel, set_peft_model_state_dict
    except ImportError as error:
        raise InputError(f"{folder} is a PEFT adapter; install the extra: pip install 'tl-nla[lora]'") from error
    try:
        adapted = PeftModel(model, PeftConfig.from_pretrained(str(folder)))
        outcome: Any = set_peft_model_state_dict(adapted, weights)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(
            f"the adapter in {folder} does not fit its base: {' '.join(str(error).split())[:200]}"
        ) from error
    left = list(outcome.unexpected_keys) + [key for key in outcome.missing_keys if "lora_" in key]
    if left:
        raise InputError(f"the adapter in {folder} does not fit its base; {len(left)} tensors differ ({left[0]})")
    return adapted.merge_and_unload()
