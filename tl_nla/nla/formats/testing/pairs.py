"""Writers of tiny pairs: kitft, EasyNLA, nanoNLA. Nothing of the readers is used, only their description."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError, unknown
from tl_nla.nla.formats.testing.tiny import (
    MARKER,
    TARGETS,
    THINK,
    Written,
    random_head,
    tiny_model,
    tiny_tokenizer,
    write_adapter,
    write_json,
    write_yaml,
)
from tl_nla.outputs import check_folder

LAYER, SCALE = 1, 7.5
AV_TEMPLATE = "Say what it is: <concept>{injection_char}</concept> Now."
AR_TEMPLATE = "Summary: <text>{explanation}</text> <summary>"
LAYOUTS = ("pair", "merged_warm_start", "stacked", "prefix_ordered")


def write_kitft(folder: str | Path, kind: str = "qwen2", schema: int = 2, seed: int = 0) -> Written:
    """A tiny pair in the official layout: ``av/`` and ``ar/`` with whole weights and model sidecars.

    Args:
        folder: new or empty.
        kind: architecture, as of :func:`tl_nla.nla.formats.testing.tiny.tiny_model`.
        schema: of the sidecars, 1 or 2.
        seed: of the weights.

    Raises:
        InputError: when something lies there, or for another schema.

    Example:
        >>> written = write_kitft("tiny_pair")
        >>> tl_nla.NLA.from_pretrained(written.folder)
    """
    if schema not in (1, 2):
        raise InputError(f"schema is {schema!r}; sidecars have 1 or 2")
    folder, begin = new_folder(folder), kind in ("llama", "gemma3")
    tokenizer, model = tiny_tokenizer(begin), tiny_model(kind, seed)
    for part in ("av", "ar"):
        tokenizer.save_pretrained(folder / part)
        write_yaml(folder / part / "nla_meta.yaml", _model_sidecar(tokenizer, part, schema))
    model.save_pretrained(folder / "av")
    _write_critic(model, folder / "ar", random_head(model.config.hidden_size))
    return Written("kitft", folder, None, folder / "av", LAYER)


def write_easynla(folder: str | Path, layout: str = "pair", kind: str = "qwen3", seed: int = 0) -> Written:
    """A tiny pair as EasyNLA and ceselder release them; the base model lies in ``base/``.

    Args:
        folder: new or empty.
        layout: ``pair`` (``av/`` adapter, ``ar/`` adapter and head in one file), ``merged_warm_start``
            (``av_base/``, ``av_rl_adapters/iter_N/``, ``ar_reconstructor/``), ``stacked`` (``av_sft_lora/``,
            ``av_rl_lora_step400/``, ``rl_critic_step400/``) or ``prefix_ordered`` (``warmstart_av_lora/``,
            ``rl_av_lora_iter400/``, ``rl_critic_step400/``).
        kind: architecture.
        seed: of the weights.

    Raises:
        InputError: when something lies there, or for another layout.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    folder = new_folder(folder)
    base, root, begin = folder / "base", folder / "pair", kind in ("llama", "gemma3")
    tokenizer, model = tiny_tokenizer(begin), tiny_model(kind, seed)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    sidecar = _data_sidecar(tokenizer, str(base), prefilled=layout == "stacked")
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 2, "use_rslora": True}
    if layout == "pair":
        write_adapter(base, root / "av", seed + 1, **settings)
        _write_lora_critic(model, root / "ar", seed + 2)
        with_tokenizer = [root / "av", root / "ar"]
    elif layout == "merged_warm_start":
        tiny_model(kind, seed + 3).save_pretrained(root / "av_base")
        for step in (100, 300, 800):
            target = root / "av_rl_adapters" / f"iter_{step:06d}"
            write_adapter(root / "av_base", target, seed + step, str(root), **settings)
        _write_critic(model, root / "ar_reconstructor", random_head(model.config.hidden_size))
        with_tokenizer = [root / "av_base", root / "ar_reconstructor"]
        write_yaml(root / "nla_meta.yaml", sidecar)
    else:
        first, second = ("av_sft_lora", "av_rl_lora_step400") if layout == "stacked" else (
            "warmstart_av_lora", "rl_av_lora_iter400")  # fmt: skip
        for number, name in enumerate((first, second)):
            write_adapter(base, root / name, seed + number + 1, **settings)
            write_yaml(root / name / "nla_meta.yaml", sidecar)
        _write_critic(model, root / "rl_critic_step400", random_head(model.config.hidden_size))
        with_tokenizer = [root / first, root / "rl_critic_step400"]
    for place in with_tokenizer:
        tokenizer.save_pretrained(place)
        write_yaml(place / "nla_meta.yaml", sidecar)
    return Written("easynla", root, None, base, LAYER)


def write_nanonla(folder: str | Path, layout: str = "merged", kind: str = "qwen3", seed: int = 0) -> Written:
    """A tiny pair as nanoNLA releases them: folders ``nanonla-tiny-av``, ``-ar`` and, for ``rl_lora``, ``-rl-lora``.

    Args:
        folder: new or empty.
        layout: ``merged`` or ``rl_lora``, with one adapter a length penalty on the verbalizer.
        kind: architecture.
        seed: of the weights.

    Raises:
        InputError: when something lies there, or for another layout.
    """
    if layout not in ("merged", "rl_lora"):
        raise unknown("layout", layout, ("merged", "rl_lora"))
    folder = new_folder(folder)
    av, ar, adapters = (folder / f"nanonla-tiny-{end}" for end in ("av", "ar", "rl-lora"))
    tokenizer, model = tiny_tokenizer(kind in ("llama", "gemma3")), tiny_model(kind, seed)
    model.save_pretrained(av)
    _write_critic(model, ar, random_head(model.config.hidden_size))
    for place in (av, ar):
        tokenizer.save_pretrained(place)
        write_yaml(place / "nla_meta.yaml", _data_sidecar(tokenizer, ""))
    if layout == "merged":
        return Written("nanonla", av, ar, av, LAYER)
    for number, penalty in enumerate(("p0.0", "p0.01")):
        write_adapter(av, adapters / penalty, seed + number, "Some/Base", r=4, lora_alpha=2, use_rslora=True)
    return Written("nanonla", adapters, ar, av, LAYER)


def new_folder(folder: str | Path) -> Path:
    """A folder of its own.

    Raises:
        InputError: when something lies there.
    """
    path = check_folder(folder)
    if path.exists() and any(path.iterdir()):
        raise InputError(f"{path} is not empty; give a new folder")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _tokens(tokenizer: Any, rendered: str) -> dict[str, Any]:
    ids = tokenizer.encode(rendered, add_special_tokens=False)
    place = ids.index(tokenizer.encode(MARKER, add_special_tokens=False)[0])
    return {
        "injection_char": MARKER, "injection_token_id": ids[place], "injection_left_neighbor_id": ids[place - 1],
        "injection_right_neighbor_id": ids[place + 1],
        "critic_suffix_ids": tokenizer.encode("</text> <summary>", add_special_tokens=False)[1:],
    }  # fmt: skip


def _rendered(tokenizer: Any, after: str = "") -> str:
    begin = "<bos>" if tokenizer("a")["input_ids"][0] == 1 else ""
    message = AV_TEMPLATE.replace("{injection_char}", MARKER)
    return f"{begin}<turn>user\n{message}</turn>\n<turn>assistant\n{after}"


def _model_sidecar(tokenizer: Any, part: str, schema: int) -> dict[str, Any]:
    roles = {"av": "actor", "ar": "critic"} if schema == 1 else {"av": "av", "ar": "ar"}
    found: dict[str, Any] = {
        "kind": "nla_model", "schema_version": schema, "role": roles[part], "stage": "rl",
        "base_checkpoint": "some/base", "d_model": 32,
        "extraction": {"injection_scale": SCALE if part == "av" else None, "mse_scale": 32**0.5},
        "tokens": _tokens(tokenizer, _rendered(tokenizer)),
        "prompt_templates": {roles["av"]: AV_TEMPLATE, roles["ar"]: AR_TEMPLATE},
        "trained_on": ["some_data"], "parent_checkpoints": [], "created_at": "2026-01-01", "created_by": "them",
    }  # fmt: skip
    if schema == 1:
        found["critic"] = {"num_hidden_layers": LAYER + 1}
    else:
        found["extraction_layer_index"] = LAYER
    return found


def _data_sidecar(tokenizer: Any, base: str, prefilled: bool = False) -> dict[str, Any]:
    tokens = _tokens(tokenizer, _rendered(tokenizer, THINK + ("<explanation>\n" if prefilled else "")))
    return {
        "kind": "nla_dataset", "schema_version": 1, "dataset_id": "tiny", "stage": "av_sft", "row_count": 10,
        "keep_debug_metadata": False,
        "extraction": {
            "base_model": base, "d_model": 32, "layer_index": LAYER, "norm": "none", "corpus": "tiny",
            "corpus_slice": {"start": 0, "length": 10}, "positions_per_doc": 10,
        },
        "tokens": {**tokens, "critic_suffix_ids": None},
        "prompt_templates": {"actor": AV_TEMPLATE, "critic": AR_TEMPLATE},
        "api_summaries": {"model": "some", "max_tokens": 300, "temperature": 1.0, "instruction_prompt": "Say."},
        "parent_datasets": [], "created_at": "2026-01-01", "created_by": "them", "git_commit": "0" * 40,
    }  # fmt: skip


def _write_critic(model: Any, folder: Path, head: Tensor) -> None:
    """The first K + 1 blocks under their keys in the causal language model, no norm, no output; and the head."""
    kept = {}
    for name, value in model.state_dict().items():
        parts = name.removeprefix("model.").split(".")
        if parts[0] == "embed_tokens" or (parts[0] == "layers" and int(parts[1]) <= LAYER):
            kept[name] = value.clone()
    config = model.config.to_dict()
    config["num_hidden_layers"] = LAYER + 1
    if config.get("layer_types"):
        config["layer_types"] = config["layer_types"][: LAYER + 1]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    save_file({"weight": head}, folder / "value_head.safetensors")
    (folder / "config.json").write_text(json.dumps(config, default=str), encoding="utf-8")


def _write_lora_critic(model: Any, folder: Path, seed: int) -> None:
    """Adapter of the first K + 1 blocks and head in one file, as the trainer's own module names them."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, module in model.model.named_modules():
        if name.startswith("layers.") and int(name.split(".")[1]) <= LAYER and name.rsplit(".", 1)[-1] in TARGETS:
            rows, columns = module.weight.shape
            front = f"backbone.base_model.model.{name}"
            tensors[f"{front}.lora_A.default.weight"] = 0.1 * torch.randn(4, columns, generator=generator)
            tensors[f"{front}.lora_B.default.weight"] = 0.1 * torch.randn(rows, 4, generator=generator)
    tensors["value_head.weight"] = random_head(model.config.hidden_size)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "ar_lora_value_head.safetensors")
    settings = {"ar_num_layers": LAYER + 1, "lora_r": 4, "lora_alpha": 2, "quant": None,
                "target_modules": list(TARGETS), "final_norm_stripped": True}  # fmt: skip
    write_json(folder / "ar_meta.json", settings)
