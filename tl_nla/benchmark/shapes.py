"""Models of known shapes with random weights, for measurements where real weights cannot be had."""

import copy
from dataclasses import dataclass
from typing import Any

import torch

from tl_nla.errors import unknown


@dataclass(frozen=True)
class BenchModel:
    """A model as TransformerLens has it, and the same weights as transformers has them.

    Attributes:
        bridge: for us and for TransformerLens.
        plain: for peers that run the Hugging Face model; ``None`` where there is no second copy.
        name: what it is, for tables.
    """

    bridge: Any
    plain: Any
    name: str


_SMOLLM2 = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
    "num_key_value_heads": 3, "tie_word_embeddings": True, "max_position_embeddings": 8192,
}  # fmt: skip
_GEMMA2 = {
    "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
}  # fmt: skip
SHAPES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {}, 4),
    "smollm2": ("LlamaConfig", "LlamaForCausalLM", _SMOLLM2, 4),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", _GEMMA2, 2),
}
"""Configuration, model class, sizes and layers: GPT-2 small, SmolLM2-135M and Gemma-2-2b, each cut to few layers."""


def shaped(shape: str, layers: int | None = None, dtype: str = "float32") -> BenchModel:
    """Random weights of a known shape.

    Args:
        shape: one of ``SHAPES``.
        layers: how many blocks; the shape's own number when ``None``.
        dtype: ``"float32"`` or ``"bfloat16"``.

    Raises:
        InputError: for another shape.
    """
    import transformers

    if shape not in SHAPES:
        raise unknown("shape", shape, SHAPES)
    config_class, model_class, sizes, own = SHAPES[shape]
    count = layers or own
    named = {"n_layer": count} if shape == "gpt2" else {"num_hidden_layers": count}
    config = getattr(transformers, config_class)(**sizes, **named)
    config.architectures = [model_class]
    return bench_model(getattr(transformers, model_class), config, f"{shape}, {count} layers, random weights", dtype)


def bench_model(made: Any, config: Any, name: str, dtype: str = "float32") -> BenchModel:
    """A model of a configuration, its weights drawn with seed 0."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = made(config).eval().to(getattr(torch, dtype)).requires_grad_(False)
    bridge = build_bridge_from_module(
        copy.deepcopy(plain), made.__name__, hf_config=config, tokenizer=None, dtype=getattr(torch, dtype)
    )
    return BenchModel(bridge.eval(), plain, name)


def named_model(name: str, dtype: str) -> BenchModel:
    """A model by name with its real weights; see :func:`tl_nla.load`.

    Raises:
        InputError: when it cannot be loaded.
    """
    from tl_nla.model.loading import load_causal_lm
    from tl_nla.model.placement import Placement
    from tl_nla.model.targets import load, model_folder

    plain = load_causal_lm(model_folder(name), placement=Placement(dtype))
    return BenchModel(load(name, dtype=dtype), plain.requires_grad_(False), name)
