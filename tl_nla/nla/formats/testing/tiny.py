"""What the writers of tiny folders share: a tokenizer of bytes, random models, random adapters."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from tl_nla.errors import unknown
from tl_nla.model.lora import quiet_peft

MARKER = "\u320e"
THINK = "<think>\n\n</think>\n\n"
_RESERVED = tuple(f"<|reserved_special_token_{number}|>" for number in (10, 11, 12))
_SPECIAL = ("<pad>", "<bos>", "<eos>", "<turn>", "</turn>", *_RESERVED)
_CHAT = (
    "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
_SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_KINDS = {
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 16}),
    "llama": ("LlamaConfig", "LlamaForCausalLM", {}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {"head_dim": 8, "sliding_window": 16}),
}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Written:
    """A tiny folder that was written.

    Attributes:
        family: of the layout.
        folder: what ``from_pretrained`` is given.
        ar: the reconstructor's folder where it is another one.
        base: folder of the model that it was made from.
        layer: K.
    """

    family: str
    folder: Path
    ar: Path | None
    base: Path
    layer: int


def tiny_tokenizer(begin: bool = False) -> Any:
    """Bytes, turns, the marker and ``" ?"`` as tokens, and a chat template that can switch thinking off.

    Args:
        begin: whether a begin token stands in front of every text.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = {name: number for number, name in enumerate([*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    first, second, third = list(to_bytes.pre_tokenize_str(MARKER)[0][0])
    merges = [(first, second), (first + second, third), (".", "<"), ("Ġ", "?")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    core = Tokenizer(models.BPE(vocabulary, merges))
    core.pre_tokenizer, core.decoder = to_bytes, decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _SPECIAL])
    if begin:
        core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **names)
    tokenizer.chat_template = ("<bos>" if begin else "") + _CHAT
    return tokenizer


def tiny_model(kind: str = "qwen2", seed: int = 0, **settings: Any) -> Any:
    """A random causal language model with four blocks of width 32.

    Args:
        kind: ``qwen2``, ``qwen3``, ``llama`` or ``gemma3``.
        seed: of the weights.
        settings: of the configuration.

    Raises:
        InputError: for another kind.
    """
    import transformers

    if kind not in _KINDS:
        raise unknown("kind of tiny model", kind, _KINDS)
    config_name, model_name, own = _KINDS[kind]
    config = getattr(transformers, config_name)(
        **{**_SIZES, "vocab_size": len(tiny_tokenizer()), "tie_word_embeddings": False, **own, **settings}
    )
    return randomise(getattr(transformers, model_name)(config), seed)


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> Any:
    """Give every parameter noise; gains of norms stay near one, so that activations keep their size."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        gain = "norm" in name and "gemma" not in type(model).__name__.lower()
        parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator) + float(gain))
    return model.eval()


@torch.no_grad()
def write_adapter(base: Path, folder: Path, seed: int, named: str | None = None, **settings: Any) -> None:
    """A random PEFT adapter on a base model, written by PEFT itself."""
    import peft

    from tl_nla.model.loading import load_causal_lm

    config = peft.LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": list(TARGETS), "task_type": "CAUSAL_LM", **settings}
    )
    with quiet_peft():
        wrapped = peft.get_peft_model(load_causal_lm(base), config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    wrapped.peft_config["default"].base_model_name_or_path = str(base)
    wrapped.save_pretrained(str(folder))
    if named is not None:
        path = folder / "adapter_config.json"
        write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "base_model_name_or_path": named})


def random_head(d_model: int, seed: int = 5) -> Tensor:
    """A reconstructor's head that is not the identity."""
    return torch.eye(d_model) + 0.1 * torch.randn(d_model, d_model, generator=torch.Generator().manual_seed(seed))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """A YAML file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
