"""Tiny checkpoints in the released format, written from its description without any help from ``tl_nla``."""

import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests import zoo

CHAR = "\u320e"
LAYER = 1
SCALE = 7.5
AV_TEMPLATE = "Say what it is: <concept>{injection_char}</concept> Now."
AR_TEMPLATE = "Summary: <text>{explanation}</text> <summary>"
SPECIAL = ["<pad>", "<bos>", "<eos>", "<turn>", "</turn>"]
FAMILIES = ("qwen2", "llama", "gemma3")
BEGIN = {"qwen2": False, "llama": True, "gemma3": True}  # whose tokenizers put a begin token first
_CHAT = (
    "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] | trim }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def byte_tokenizer(begin: bool = False, chat: bool = True) -> PreTrainedTokenizerFast:
    """Bytes, three special tokens, two turn tokens, the injection character, and '.<' as one token."""
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = {name: i for i, name in enumerate(SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    first, second, third = to_bytes.pre_tokenize_str(CHAR)[0][0]
    merges = [(first, second), (first + second, third), (".", "<")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    core = Tokenizer(models.BPE(vocabulary, merges))
    core.pre_tokenizer, core.decoder = to_bytes, decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    if begin:
        core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    names = {"pad_token": SPECIAL[0], "bos_token": SPECIAL[1], "eos_token": SPECIAL[2]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **names)
    if chat:
        tokenizer.chat_template = ("<bos>" if begin else "") + _CHAT
    return tokenizer


def source_model(family: str, **settings):
    """The model that both parts are made from."""
    defaults = {"vocab_size": len(byte_tokenizer()), "max_position_embeddings": 256}
    if family == "gemma3":
        defaults["layer_types"] = ["sliding_attention", "full_attention", "sliding_attention"]
    return zoo.hf_model(family, **{**defaults, **settings})


def head_weight(d_model: int = zoo.D_MODEL) -> torch.Tensor:
    """A reconstructor's head that is not the identity."""
    return torch.eye(d_model) + 0.1 * torch.randn(d_model, d_model, generator=torch.Generator().manual_seed(5))


def sidecar(tokenizer, role: str, schema: int = 2) -> dict:
    """A model sidecar: schema 1 speaks of actor and critic, schema 2 of av and ar."""
    old = {"av": "actor", "ar": "critic"}
    name = (lambda part: old[part]) if schema == 1 else (lambda part: part)
    chat = [{"role": "user", "content": AV_TEMPLATE.replace("{injection_char}", CHAR)}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
    marker = tokenizer.encode(CHAR, add_special_tokens=False)[0]
    place = prompt.index(marker)
    found = {
        "kind": "nla_model", "schema_version": schema, "role": name(role), "stage": "rl",
        "base_checkpoint": "some/base", "d_model": zoo.D_MODEL,
        "extraction": {"injection_scale": SCALE if role == "av" else None, "mse_scale": zoo.D_MODEL**0.5},
        "tokens": {
            "injection_char": CHAR, "injection_token_id": marker, "injection_left_neighbor_id": prompt[place - 1],
            "injection_right_neighbor_id": prompt[place + 1],
            "critic_suffix_ids": tokenizer.encode("</text> <summary>", add_special_tokens=False)[1:],
        },
        "prompt_templates": {name("av"): AV_TEMPLATE, name("ar"): AR_TEMPLATE},
        "trained_on": ["some_data"], "parent_checkpoints": [], "created_at": "2026-01-01", "created_by": "them",
        "training": {"lr": 1e-5},
    }  # fmt: skip
    if schema == 1:
        found["critic"] = {"num_hidden_layers": LAYER + 1}
    else:
        found["extraction_layer_index"] = LAYER
    return found


def write_sidecar(folder: Path, content: dict) -> None:
    """Write ``nla_meta.yaml``."""
    (folder / "nla_meta.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def write_reconstructor_weights(folder: Path, model) -> None:
    """The first K + 1 blocks under their keys in the causal language model, no norm, no head; and the value head."""
    prefix = model.base_model_prefix + "."
    kept = {}
    for name, value in model.state_dict().items():
        parts = name.removeprefix(prefix).split(".")
        if (parts[0] in ("layers", "h") and int(parts[1]) <= LAYER) or "embed" in parts[0]:
            kept[name] = value.contiguous()
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    save_file({"weight": head_weight()}, folder / "value_head.safetensors")
    config = model.config.to_dict()
    config["num_hidden_layers"] = LAYER + 1
    if config.get("layer_types"):
        config["layer_types"] = config["layer_types"][: LAYER + 1]
    (folder / "config.json").write_text(json.dumps(config, default=str))


def write_pair(folder: Path, family: str, schema: int = 2) -> tuple[Path, Path]:
    """Both folders of a released pair."""
    tokenizer, model = byte_tokenizer(BEGIN[family]), source_model(family)
    av, ar = folder / "av", folder / "ar"
    for part in (av, ar):
        part.mkdir(parents=True)
        tokenizer.save_pretrained(part)
        write_sidecar(part, sidecar(tokenizer, part.name, schema))
    model.save_pretrained(av)
    write_reconstructor_weights(ar, model)
    return av, ar


def edit_sidecar(folder: Path, **changes) -> None:
    """Change top-level keys of a sidecar; a value of ``...`` removes the key; a mapping changes the keys inside."""
    path = folder / "nla_meta.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))

    def change(target: dict, edits: dict) -> None:
        for key, value in edits.items():
            if value is ...:
                del target[key]
            elif isinstance(value, dict) and isinstance(target.get(key), dict):
                change(target[key], value)
            else:
                target[key] = value

    change(content, changes)
    write_sidecar(folder, content)
