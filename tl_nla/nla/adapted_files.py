"""Small pairs on the disk: what was trained, and nothing of the target's own weights."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.finite import check_finite
from tl_nla.model.files import read_json, read_safetensors
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import model_folder
from tl_nla.nla.adapted import AdaptedPair, adapted_nla
from tl_nla.nla.pair import NLA
from tl_nla.nla.provenance import record
from tl_nla.nla.reference import LoraSettings
from tl_nla.outputs import check_folder
from tl_nla.paths import user_path
from tl_nla.whole_file import write_json

WEIGHTS, SETTINGS = "adapters.safetensors", "adapters.json"
_MEAN = "mean"


def trained_tensors(nla: NLA) -> dict[str, Tensor]:
    """What was trained of a pair, by name: adapters, slots, head; and the training states' mean."""
    found = {name: p.detach() for name, p in nla.named_parameters() if p.requires_grad or ".lora_" in name}
    found |= {f"verbalizer.injection.{name}": p.detach() for name, p in nla.verbalizer.injection.named_parameters()}
    found |= {"reconstructor.head.weight": nla.reconstructor.head.weight.detach()}
    return found if nla.mean is None else {**found, _MEAN: nla.mean.detach()}


def save_adapted(nla: NLA, folder: str | Path, dtype: torch.dtype = torch.float32, about: Any = None) -> None:
    """Write what was trained of a small pair.

    Args:
        nla: made by :func:`tl_nla.nla.adapted.adapted_nla`.
        folder: where to; made where it is missing.
        dtype: of what is written; ``torch.bfloat16`` to ship it.
        about: anything for JSON that is kept beside the settings, such as how it was trained.

    Raises:
        InputError: for a pair of another make, a weight that is not finite, or when the folder cannot be written to.
    """
    if nla.adapted is None:
        raise InputError("this pair has all weights of its own; save it by its save_pretrained")
    tensors = trained_tensors(nla)
    check_finite(tensors, "the pair", dtype)
    folder = check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{WEIGHTS}"
    save_file({name: value.to("cpu", dtype).contiguous() for name, value in tensors.items()}, part)
    part.chmod(0o644)  # safetensors makes it private, others may read a result
    part.replace(folder / WEIGHTS)
    settings = {"layer": nla.layer, "slots": nla.adapted.slots, "lora": asdict(nla.adapted.lora), "base": nla.base}
    made = record(nla.verbalizer.model, nla.layer, nla.base)
    write_json({**settings, "provenance": made, "about": about}, folder / SETTINGS)


def is_small(folder: str | Path) -> bool:
    """Whether a folder holds what :func:`save_adapted` wrote."""
    return (user_path(folder) / SETTINGS).is_file()


def load_adapted(model: str, pair: AdaptedPair | None = None, dtype: torch.dtype | None = None) -> NLA:
    """A small pair to train or to use: a saved one, or a fresh one over a model.

    Args:
        model: a folder that :func:`save_adapted` wrote; or a model's name, folder or hub id.
        pair: of a fresh one; a saved one knows its own.
        dtype: of the frozen weights; as it was trained with when ``None``.

    Raises:
        InputError: when a file is missing or damaged, or the pair was made over another model.

    Example:
        >>> nla = load_adapted("smollm2", AdaptedPair(layer=16))
    """
    saved = user_path(model)
    if not is_small(saved):
        return _over(model, pair or AdaptedPair(), dtype)
    told = read_json(saved / SETTINGS)
    if pair is not None and pair.layer not in (None, told.get("layer")):
        raise InputError(f"the pair in {model!r} is of layer {told.get('layer')}, not {pair.layer}; give its own")
    nla = _over(str(told.get("base")), saved_config(saved), dtype)
    fill_adapted(nla, saved)
    nla.provenance = {"family": "small", **dict(told.get("provenance") or {})}
    return nla


def saved_config(folder: str | Path) -> AdaptedPair:
    """With what a saved pair was made.

    Raises:
        InputError: when its settings cannot be read.
    """
    path = user_path(folder) / SETTINGS
    told = read_json(path)
    try:
        return AdaptedPair(int(told["layer"]), int(told["slots"]), LoraSettings(**told["lora"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not hold the settings of a small pair ({error})") from error


def fill_adapted(nla: NLA, folder: str | Path) -> None:
    """Put saved tensors into a pair of the same settings.

    Raises:
        InputError: when the file does not hold exactly what the pair needs.
    """
    path = user_path(folder) / WEIGHTS
    found = read_safetensors(path)
    mean = found.pop(_MEAN, None)
    wanted = {name: value for name, value in trained_tensors(nla).items() if name != _MEAN}
    if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in wanted.items()}:
        raise InputError(f"{path} was made for a model of another shape; train a pair of this one")
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(found[name])
    nla.mean = None if mean is None else mean.float()


def _over(name: str, config: AdaptedPair, dtype: torch.dtype | None = None) -> NLA:
    folder = model_folder(name)
    if dtype is not None:
        config = replace(config, lora=replace(config.lora, dtype=str(dtype).removeprefix("torch.")))
    nla = adapted_nla(load_causal_lm(folder, config.lora.torch_dtype), load_tokenizer(folder), config)
    nla.base = name
    return nla
