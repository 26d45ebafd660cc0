"""The embedded target model: about one million parameters, grouped-query attention, Llama architecture.

Copying a fact told once needs heads that find each other. One carries a key to its value some tokens on, one looks for
that key later. (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", induction heads.) From random
weights that takes many thousands of steps. The model therefore starts with the heads of layer 0 looking one, two, three
and four tokens back and one matching head in layer 1. A short convolution gives the former to other architectures (Fu
et al. 2023, "Hungry Hungry Hippos"). Training does the rest. Attention biases make the first kind possible.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

_FAST = 0.02
"""Rotary frequencies above this (radians a token) tell neighbours apart; those below leave content readable."""


@dataclass(frozen=True)
class TargetConfig:
    """Shape and start of the target model; the defaults are the embedded one."""

    d_model: int = 128
    d_mlp: int = 384
    n_layers: int = 4
    n_heads: int = 4
    n_key_value_heads: int = 2
    d_head: int = 64
    n_ctx: int = 512
    rope_theta: float = 1e5
    seed: int = 0


def build_target(tokenizer: PreTrainedTokenizerBase, config: TargetConfig | None = None) -> LlamaForCausalLM:
    """An untrained target model with the copying circuit put in.

    Args:
        tokenizer: the world's tokenizer; fixes the vocabulary and the special ids.
        config: shape and seed.

    Returns:
        A Hugging Face causal language model with tied embeddings, in training mode.
    """
    config = config or TargetConfig()
    generator = torch.Generator().manual_seed(config.seed)
    model = LlamaForCausalLM(_hugging_face_config(tokenizer, config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                deviation = 0.08 if "embed_tokens" in name else 0.02
                deviation *= 0.3 if "o_proj" in name or "down_proj" in name else 1.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
        _install_copying(model, config, generator)
    return model.train()


def _hugging_face_config(tokenizer: PreTrainedTokenizerBase, config: TargetConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=config.d_model, intermediate_size=config.d_mlp,
        num_hidden_layers=config.n_layers, num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_key_value_heads, head_dim=config.d_head, max_position_embeddings=config.n_ctx,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=True, attention_bias=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        architectures=["LlamaForCausalLM"],
    )  # fmt: skip


def _install_copying(model: LlamaForCausalLM, config: TargetConfig, generator: torch.Generator) -> None:
    """Head h of layer 0 attends h + 1 tokens back; a head of layer 1 copies what followed the current token."""
    size, half = config.d_head, config.d_head // 2
    frequency = config.rope_theta ** (-torch.arange(half) * 2 / size)
    basis = torch.linalg.qr(torch.randn(config.d_model, config.d_model, generator=generator)).Q
    content, shifted = basis[:size], basis[size : 2 * size]
    scale = 0.9 / math.sqrt(config.d_model)
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    amplitude = torch.where(frequency > _FAST, 6.0, 0.0)
    first.q_proj.weight *= 0.3
    first.k_proj.weight *= 0.3
    first.k_proj.bias.copy_(torch.cat([amplitude, torch.zeros(half)]).repeat(config.n_key_value_heads))
    first.v_proj.weight.copy_(content.repeat(config.n_key_value_heads, 1))
    for head in range(config.n_heads):
        rows = slice(head * size, (head + 1) * size)
        turn = frequency * (head + 1)
        first.q_proj.bias[rows] = torch.cat([amplitude * turn.cos(), -amplitude * turn.sin()])
        target = torch.linalg.qr(torch.randn(config.d_model, size, generator=generator)).Q.T if head else shifted
        first.o_proj.weight[:, rows] = scale * (0.7 if head else 1.0) * target.T
    head, group = config.n_heads // 2, config.n_key_value_heads // 2
    query = slice(head * size, (head + 1) * size)
    key = slice(group * size, (group + 1) * size)
    second.q_proj.weight[query], second.k_proj.weight[key] = _matching(content, shifted, frequency, size, generator)
    second.v_proj.weight[key] = content
    second.o_proj.weight[:, query] = 2 * scale * content.T


def _matching(
    asks: Tensor, answers: Tensor, frequency: Tensor, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Query and key weights that compare ``asks`` with ``answers`` in the slowly rotating dimensions."""
    slow = torch.nonzero(frequency < _FAST).flatten()
    dims = torch.cat([slow, slow + size // 2])
    mixing = torch.linalg.qr(torch.randn(size, len(dims), generator=generator)).Q.T
    query, key = torch.zeros(size, asks.shape[1]), torch.zeros(size, answers.shape[1])
    query[dims], key[dims] = 1.5 * mixing @ asks, 1.5 * mixing @ answers
    return query, key
