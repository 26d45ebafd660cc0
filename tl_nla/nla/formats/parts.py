"""The two parts of a planned pair: loaded with every check, and written in the official layout."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.cut import cut_backbone
from tl_nla.model.families import decoder_layers, is_adapted
from tl_nla.model.files import read_json, read_safetensors
from tl_nla.model.loading import TOKENIZERS, load_causal_lm, load_tokenizer
from tl_nla.model.saving import save_backbone, save_causal_lm
from tl_nla.nla import prompts
from tl_nla.nla.formats.plan import PairPlan, Said
from tl_nla.nla.formats.protocol import Protocol
from tl_nla.nla.formats.sidecar import FILE_NAME, Meta, meta_to_yaml
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.reconstructor import Reconstructor
from tl_nla.nla.verbalizer import Verbalizer

HEAD, INJECTION = "value_head.safetensors", "injection.safetensors"
AR_LORA, AR_SETTINGS = "ar_lora_value_head.safetensors", "ar_meta.json"
_HEAD_KEYS = ("weight", "value_head.weight")
_PROBE = "A plain sentence."


def load_verbalizer(plan: PairPlan, meta: Meta, protocol: Protocol, said: Said) -> Verbalizer:
    """A pair's verbalizer, with every load-time check.

    Args:
        plan: where its weights, adapters and tokenizer are.
        meta: its sidecar.
        protocol: how it is read.
        said: precision, and what overrides the injection (the reimplementations inject additively and do not say so).

    Raises:
        InputError: when the sidecar does not fit the tokenizer or the weights, or has no injection scale.
    """
    where = meta_place(plan)
    if meta.av_template is None or meta.injection_char is None:
        raise InputError(f"{where} lacks the verbalizer's template or the injection character")
    config = said.injection or protocol.injection or _injection_of(where, meta)
    tokenizer = load_tokenizer(plan.tokenizer_folder())
    prompt = prompts.build_verbalizer_prompt(
        tokenizer, meta.av_template, meta.injection_char, config.slots, protocol.style
    )
    if meta.injection_token_id not in (None, prompt.token_id):
        raise InputError(
            f"the sidecar's injection token is {meta.injection_token_id}, the tokenizer's {prompt.token_id}"
        )
    if meta.neighbours not in (None, prompt.neighbours):
        raise InputError(
            f"the sidecar's injection neighbours are {meta.neighbours}, those in the prompt {prompt.neighbours}; "
            "template and tokenizer do not belong together"
        )
    model = _verbalizer_model(plan, said)
    _check_width(where, meta, model)
    verbalizer = Verbalizer(model, tokenizer, prompt, config, protocol.answers)
    state = dict(verbalizer.injection.state_dict())
    if state:
        path = plan.shared[0].fetch() / INJECTION
        found = read_safetensors(path)
        if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in state.items()}:
            raise InputError(f"{path} does not hold the {sorted(state)} of injection {config.kind!r}")
        verbalizer.injection.load_state_dict(found)
    return verbalizer


def load_reconstructor(
    plan: PairPlan, meta: Meta, av_meta: Meta, protocol: Protocol, dtype: torch.dtype | None = None
) -> Reconstructor:
    """A pair's reconstructor, with every load-time check; what its sidecar leaves out is taken from the verbalizer's.

    Raises:
        InputError: when the sidecar does not fit the tokenizer or the weights, or the head is missing or damaged.
    """
    folder = plan.ar.fetch()
    template = meta.ar_template or av_meta.ar_template
    if template is None:
        raise InputError(f"{folder / FILE_NAME} lacks the reconstructor's template")
    shared = protocol is not plan.protocol or av_meta.of_data  # reimplementations keep one tokenizer for both
    own = any(plan.ar.has(name) for name in TOKENIZERS)
    tokenizer = load_tokenizer(plan.tokenizer_folder() if shared and not own else folder)
    special = protocol.ar_special
    suffix = _common_suffix(prompts.suffix_ids(tokenizer, template, special), meta.suffix_ids or av_meta.suffix_ids)
    if suffix and tuple(prompts.reconstructor_ids(tokenizer, template, [_PROBE], special)[0][-len(suffix) :]) != suffix:
        raise InputError(
            f"a reconstructor prompt does not end in the suffix {list(suffix)}; wrong tokenizer or template"
        )
    backbone, weight = _backbone_and_head(plan, folder, meta, dtype)
    rescale = float(meta.d_model) ** 0.5 if protocol.ar_rescaled else None
    reconstructor = Reconstructor(backbone, tokenizer, template, suffix, special, rescale)
    if weight.shape != reconstructor.head.weight.shape:
        raise InputError(f"{folder} has d_model {reconstructor.head.in_features}, its sidecar says {meta.d_model}")
    reconstructor.head.weight.data = weight
    return reconstructor


def meta_place(plan: PairPlan) -> str:
    """How messages name the verbalizer's sidecar."""
    found = next((listing for listing in plan.shared if listing.has(FILE_NAME)), plan.shared[0])
    return f"{found.title}/{FILE_NAME}"


def _verbalizer_model(plan: PairPlan, said: Said) -> Any:
    if not plan.adapters:
        return load_causal_lm(plan.shared[0].fetch() if plan.av is None else plan.av.fetch(), said.dtype)
    from tl_nla.model.lora import merge_adapter

    folders = [listing.fetch() for listing in plan.adapters]
    model = load_causal_lm(plan.base_folder() if plan.av is None else plan.av.fetch(), said.dtype)
    for folder in folders:
        model = merge_adapter(model, folder)
    return model


def _backbone_and_head(plan: PairPlan, folder: Path, meta: Meta, dtype: torch.dtype | None) -> tuple[Any, Tensor]:
    if plan.ar.has(AR_LORA) and not plan.ar.has("adapter_config.json"):
        return _from_lora_file(plan, folder, meta, dtype)
    if plan.ar.has("adapter_config.json"):
        return _adapted_backbone(folder, meta, dtype), _read_head(folder / AR_LORA, meta.d_model)
    model = load_causal_lm(folder, dtype, headless=True)
    _check_width(str(folder), meta, model)
    backbone = cut_backbone(model, _count_blocks(folder, meta, model, plan), copy=False)
    return backbone, _read_head(folder / HEAD, meta.d_model)


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


def _injection_of(where: str, meta: Meta) -> InjectionConfig:
    kind = meta.injection.get("kind")
    slots, block = meta.injection.get("slots", 1), meta.injection.get("block", 1)
    strength = meta.injection.get("strength", 1.0)
    if not isinstance(slots, int) or not isinstance(block, int) or not isinstance(strength, int | float):
        raise InputError(
            f"{where}: injection slots is {slots!r}, block {block!r}, strength {strength!r}; slots and block must be "
            "whole numbers, strength a number"
        )
    scale = meta.injection_scale
    if (scale is None or meta.null_scale) and kind in (None, "constant", "affine"):
        found = "null as" if meta.null_scale else "no"
        raise InputError(
            f"{where} has {found} extraction.injection_scale and there is no default for it. Write the L2 "
            "norm that the verbalizer was trained with there, or 'raw' for vectors as they are, or give "
            "injection=InjectionConfig(...)"
        )
    number = scale if isinstance(scale, float) else None
    kind = kind or ("raw" if number is None else "constant")
    return InjectionConfig(kind, number if kind in ("constant", "affine") else None, slots, block, float(strength))


def _common_suffix(ours: list[int], said: tuple[int, ...] | None) -> tuple[int, ...]:
    """The part of the suffix that tokenizer and sidecar share.

    Tokenisers that put a begin token first leave one token more in the sidecar, since its first one is dropped.
    """
    if not ours and not said:
        return ()  # read at the explanation's own last token
    length = min(len(ours), len(said or ours))
    shared = tuple(ours[-length:])
    if length < 1 or tuple(said or ours)[-length:] != shared:
        raise InputError(f"the sidecar's suffix is {list(said or ())}, the tokenizer's {ours}; they must end alike")
    return shared


def _check_width(where: str, meta: Meta, model: Any) -> None:
    width = int(model.get_input_embeddings().embedding_dim)
    if width != meta.d_model:
        raise InputError(f"{where.removesuffix('/' + FILE_NAME)} has d_model {width}, its sidecar says {meta.d_model}")


def _count_blocks(folder: Path, meta: Meta, model: Any, plan: PairPlan) -> int:
    present = len(decoder_layers(model))
    if meta.layer is not None and (present <= meta.layer if plan.protocol.ar_rescaled else present != meta.layer + 1):
        raise InputError(f"{folder} has {present} blocks, layer {meta.layer} needs {meta.layer + 1} (blocks 0 to K)")
    if meta.layer is None and meta.blocks not in (None, present, present - 1):
        raise InputError(f"{folder} has {present} blocks, its sidecar says {meta.blocks}")
    return present


def _said_blocks(folder: Path, settings: dict[str, Any], reached: int, meta: Meta) -> int:
    """Blocks of a reconstructor's adapter: files exist that mean K by their count and that mean K + 1."""
    said, needed = settings.get("ar_num_layers"), reached if meta.layer is None else max(reached, meta.layer + 1)
    if said not in (None, needed, needed - 1):
        raise InputError(f"{folder / AR_SETTINGS} says {said} blocks; {needed} (K + 1) are needed")
    return needed


def _from_lora_file(plan: PairPlan, folder: Path, meta: Meta, dtype: torch.dtype | None) -> tuple[Any, Tensor]:
    """EasyNLA's reconstructor: adapter and head in one file, their settings in ``ar_meta.json``."""
    from tl_nla.model.lora import adapter_blocks, merge_tensors

    tensors, settings = read_safetensors(folder / AR_LORA), read_json(folder / AR_SETTINGS)
    head = _read_head(folder / AR_LORA, meta.d_model, {name: tensors[name] for name in tensors if "lora_" not in name})
    weights = {name.removeprefix("backbone."): value for name, value in tensors.items() if "lora_" in name}
    missing = [key for key in ("lora_r", "lora_alpha") if not isinstance(settings.get(key), int | float)]
    if missing:
        raise InputError(f"{folder / AR_SETTINGS} lacks {', '.join(missing)}; without them the adapter has no scale")
    blocks = _said_blocks(folder, settings, adapter_blocks(weights, folder / AR_LORA), meta)
    stripped = settings.get("final_norm_stripped") is True  # the norm is kept where the file does not say
    backbone = cut_backbone(load_causal_lm(plan.raw_base(meta), dtype), blocks, copy=False, keep_norm=not stripped)
    scale = {"r": int(settings["lora_r"]), "lora_alpha": settings["lora_alpha"], "use_rslora": True}
    return merge_tensors(backbone, folder, weights, scale), head


def _adapted_backbone(folder: Path, meta: Meta, dtype: torch.dtype | None) -> Any:
    """A reconstructor that is a PEFT adapter on the first blocks of the base model."""
    from tl_nla.model.lora import WEIGHTS, adapter_base, adapter_blocks, merge_adapter

    settings = read_json(folder / AR_SETTINGS) if (folder / AR_SETTINGS).is_file() else {}
    reached = adapter_blocks(read_safetensors(folder / WEIGHTS), folder / WEIGHTS)
    blocks = _said_blocks(folder, settings, reached if meta.layer is None else meta.layer + 1, meta)
    base = load_causal_lm(adapter_base(folder), dtype)
    kept = bool(settings) and settings.get("final_norm_stripped") is not True  # kept where the file does not say
    return merge_adapter(base, folder, blocks, keep_norm=kept)


def _read_head(path: Path, d_model: int, tensors: dict[str, Tensor] | None = None) -> Tensor:
    found = read_safetensors(path) if tensors is None else tensors
    weight = next((found[key] for key in _HEAD_KEYS if key in found), None)
    if weight is None or len(found) != 1 or tuple(weight.shape) != (d_model, d_model):
        shapes = {name: tuple(value.shape) for name, value in found.items()}
        raise InputError(f"{path} holds {shapes}; a head is one tensor 'weight' of shape {(d_model, d_model)}")
    if not torch.isfinite(weight).all():
        raise InputError(f"{path} holds NaN or infinite values; the export was damaged")
    return weight.float()
