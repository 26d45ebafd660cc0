"""Reading and writing the two folders of a pair in the released format."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.cut import cut_backbone
from tl_nla.model.families import decoder_layers, is_adapted
from tl_nla.model.files import read_json, read_safetensors
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.saving import save_backbone, save_causal_lm
from tl_nla.nla import prompts
from tl_nla.nla.contract import FILE_NAME, Meta, meta_to_yaml
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.reconstructor import Reconstructor
from tl_nla.nla.verbalizer import Verbalizer

HEAD, INJECTION = "value_head.safetensors", "injection.safetensors"
_PROBE = "A plain sentence."


def load_verbalizer(
    folder: Path, meta: Meta, dtype: torch.dtype | None = None, injection: InjectionConfig | None = None
) -> Verbalizer:
    """A verbalizer folder, with every load-time check.

    Args:
        folder: with weights or a PEFT adapter, and a tokenizer.
        meta: its sidecar.
        dtype: of the weights; as stored when ``None``.
        injection: overrides what the sidecar says (the reimplementations inject additively and do not say so).

    Raises:
        InputError: when the sidecar does not fit the tokenizer or the weights, or has no injection scale.
    """
    if meta.av_template is None or meta.injection_char is None:
        raise InputError(f"{folder / FILE_NAME} lacks the verbalizer's template or the injection character")
    config = injection or _injection_of(folder, meta)
    tokenizer = load_tokenizer(folder)
    prompt = prompts.build_verbalizer_prompt(tokenizer, meta.av_template, meta.injection_char, config.slots)
    if meta.injection_token_id not in (None, prompt.token_id):
        raise InputError(
            f"the sidecar's injection token is {meta.injection_token_id}, the tokenizer's {prompt.token_id}"
        )
    if meta.neighbours not in (None, prompt.neighbours):
        raise InputError(
            f"the sidecar's injection neighbours are {meta.neighbours}, those in the prompt {prompt.neighbours}; "
            "template and tokenizer do not belong together"
        )
    model = load_causal_lm(folder, dtype)
    _check_width(folder, meta, model)
    verbalizer = Verbalizer(model, tokenizer, prompt, config)
    state = dict(verbalizer.injection.state_dict())
    if state:
        found = read_safetensors(folder / INJECTION)
        if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in state.items()}:
            raise InputError(f"{folder / INJECTION} does not hold the {sorted(state)} of injection {config.kind!r}")
        verbalizer.injection.load_state_dict(found)
    return verbalizer


def load_reconstructor(folder: Path, meta: Meta, av_meta: Meta, dtype: torch.dtype | None = None) -> Reconstructor:
    """A reconstructor folder, with every load-time check; what its sidecar leaves out is taken from the verbalizer's.

    Raises:
        InputError: when the sidecar does not fit the tokenizer or the weights, or the head is missing or damaged.
    """
    template = meta.ar_template or av_meta.ar_template
    if template is None:
        raise InputError(f"{folder / FILE_NAME} lacks the reconstructor's template")
    tokenizer = load_tokenizer(folder)
    suffix = _common_suffix(prompts.suffix_ids(tokenizer, template), meta.suffix_ids or av_meta.suffix_ids)
    if tuple(prompts.reconstructor_ids(tokenizer, template, [_PROBE])[0][-len(suffix) :]) != suffix:
        raise InputError(
            f"a reconstructor prompt does not end in the suffix {list(suffix)}; wrong tokenizer or template"
        )
    if (folder / "adapter_config.json").is_file():
        from tl_nla.model.lora import AR_HEAD

        backbone, head = _adapted_backbone(folder, meta, dtype), AR_HEAD
    else:
        model = load_causal_lm(folder, dtype, headless=True)
        _check_width(folder, meta, model)
        backbone, head = cut_backbone(model, _count_blocks(folder, meta, model), copy=False), HEAD
    reconstructor = Reconstructor(backbone, tokenizer, template, suffix)
    weight = _read_head(folder / head, meta.d_model)
    if weight.shape != reconstructor.head.weight.shape:
        raise InputError(f"{folder} has d_model {reconstructor.head.in_features}, its sidecar says {meta.d_model}")
    reconstructor.head.weight.data = weight
    return reconstructor


def write_verbalizer(verbalizer: Verbalizer, meta: Meta, folder: Path, dtype: torch.dtype | None) -> None:
    """Weights, tokenizer, learned injection and sidecar of a verbalizer."""
    save_causal_lm(verbalizer.model, verbalizer.tokenizer, folder, dtype)
    learned = verbalizer.injection.state_dict().items()
    state = {name: value.detach().float().cpu().contiguous() for name, value in learned}
    if state:
        save_file(state, folder / INJECTION)
    (folder / FILE_NAME).write_text(meta_to_yaml(meta), encoding="utf-8")


def write_reconstructor(reconstructor: Reconstructor, meta: Meta, folder: Path, dtype: torch.dtype | None) -> None:
    """Weights, tokenizer, head and sidecar of a reconstructor."""
    weight = reconstructor.head.weight.detach().float().cpu().contiguous()
    if is_adapted(reconstructor.backbone):
        from tl_nla.model.lora import merge_copy

        save_backbone(merge_copy(reconstructor.backbone), reconstructor.tokenizer, folder, dtype)
    else:
        save_backbone(reconstructor.backbone, reconstructor.tokenizer, folder, dtype)
    save_file({"weight": weight}, folder / HEAD)
    (folder / FILE_NAME).write_text(meta_to_yaml(meta), encoding="utf-8")


def _injection_of(folder: Path, meta: Meta) -> InjectionConfig:
    kind = meta.injection.get("kind")
    slots = meta.injection.get("slots", 1)
    if not isinstance(slots, int):
        raise InputError(f"{folder / FILE_NAME}: injection slots is {slots!r}; it must be a whole number")
    scale = meta.injection_scale
    if (scale is None or meta.null_scale) and kind in (None, "constant", "affine"):
        found = "null as" if meta.null_scale else "no"
        raise InputError(
            f"{folder / FILE_NAME} has {found} extraction.injection_scale and there is no default for it; write the L2 "
            "norm that the verbalizer was trained with there, or 'raw' for vectors as they are, or give "
            "injection=InjectionConfig(...)"
        )
    number = scale if isinstance(scale, float) else None
    kind = kind or ("raw" if number is None else "constant")
    return InjectionConfig(kind, number if kind in ("constant", "affine") else None, slots)


def _common_suffix(ours: list[int], said: tuple[int, ...] | None) -> tuple[int, ...]:
    """The part of the suffix that tokenizer and sidecar share.

    Tokenisers that put a begin token first leave one token more in the sidecar, since its first one is dropped.
    """
    length = min(len(ours), len(said or ours))
    shared = tuple(ours[-length:])
    if length < 1 or tuple(said or ours)[-length:] != shared:
        raise InputError(f"the sidecar's suffix is {list(said or ())}, the tokenizer's {ours}; they must end alike")
    return shared


def _check_width(folder: Path, meta: Meta, model: Any) -> None:
    width = int(model.get_input_embeddings().embedding_dim)
    if width != meta.d_model:
        raise InputError(f"{folder} has d_model {width}, its sidecar says {meta.d_model}")


def _count_blocks(folder: Path, meta: Meta, model: Any) -> int:
    present = len(decoder_layers(model))
    if meta.layer is not None and present != meta.layer + 1:
        raise InputError(f"{folder} has {present} blocks, layer {meta.layer} needs {meta.layer + 1} (blocks 0 to K)")
    if meta.layer is None and meta.blocks not in (None, present, present - 1):
        raise InputError(f"{folder} has {present} blocks, its sidecar says {meta.blocks}")
    return present


def _adapted_backbone(folder: Path, meta: Meta, dtype: torch.dtype | None) -> Any:
    """A reimplementation's reconstructor: an adapter on the first blocks of the base model."""
    from tl_nla.model.lora import AR_SETTINGS, adapter_base, adapter_blocks, merge_adapter

    settings = read_json(folder / AR_SETTINGS) if (folder / AR_SETTINGS).is_file() else {}
    said = settings.get("ar_num_layers")  # files exist that mean K by it and that mean K + 1
    blocks = adapter_blocks(folder) if meta.layer is None else meta.layer + 1
    if said not in (None, blocks, blocks - 1):
        raise InputError(f"{folder / AR_SETTINGS} says {said} blocks; {blocks} (K + 1) are needed")
    base = load_causal_lm(adapter_base(folder), dtype)
    return merge_adapter(base, folder, blocks, keep_norm=settings.get("final_norm_stripped") is False)


def _read_head(path: Path, d_model: int) -> Tensor:
    found = read_safetensors(path)
    weight = found.get("weight")
    if weight is None or len(found) != 1 or tuple(weight.shape) != (d_model, d_model):
        shapes = {name: tuple(value.shape) for name, value in found.items()}
        raise InputError(f"{path} holds {shapes}; a head is one tensor 'weight' of shape {(d_model, d_model)}")
    if not torch.isfinite(weight).all():
        raise InputError(f"{path} holds NaN or infinite values; the export was damaged")
    return weight.float()
