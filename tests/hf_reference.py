"""What each part of a block adds to the residual stream, read off the Hugging Face model alone with plain hooks.

A second opinion, slow and simple: it knows neither TransformerLens nor ``tl_nla``. What each family calls its modules
is written down in a table, so that nothing here can be mistaken in the way the code under test is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class _Mixer:
    """A part of the block that moves information between positions, and ends in a linear map of its heads.

    Attributes:
        part: its name in the keys, ``attn`` or ``mixer``.
        out: the linear map at its end, as a path from the block.
        heads: how many heads it has, as an attribute of the configuration; empty where it has none.
        scale: the number its output is multiplied by, as an attribute of the block; empty where there is none.
    """

    part: str
    out: str
    heads: str = ""
    scale: str = ""


@dataclass(frozen=True)
class _Paths:
    """Where a family keeps the parts of a block, as paths from the block; what a block lacks is passed over.

    Attributes:
        blocks: the list of blocks, as a path from the model.
        mixers: attention, and what may stand in its place or beside it.
        mlp: modules whose outputs add up to what the MLP computes.
        attn_norm: the norm behind the attention, if any.
        mlp_norm: the norm behind the MLP, if any.
        one_plus: whether the norms multiply by one plus their weight.
        scale: the number every part is multiplied by, as an attribute of the block.
        stream_scale: the number the whole stream is multiplied by at the end, as an attribute of the block.
        per_layer: the last module of the embeddings that each block adds.
        alone: whether a block has a mixer or an MLP, never both.
    """

    blocks: str = "model.layers"
    mixers: tuple[_Mixer, ...] = (_Mixer("attn", "self_attn.o_proj", "num_attention_heads"),)
    mlp: tuple[str, ...] = ("mlp",)
    attn_norm: str = ""
    mlp_norm: str = ""
    one_plus: bool = False
    scale: str = ""
    stream_scale: str = ""
    per_layer: str = ""
    alone: bool = False


def _attention(out: str, heads: str = "num_attention_heads", scale: str = "") -> _Mixer:
    return _Mixer("attn", out, heads, scale)


_ATTENTION = _attention("self_attn.o_proj")
_LLAMA = _Paths()
_OUT_PROJ = _attention("self_attn.out_proj")
_POST_NORM = _Paths(attn_norm="post_attention_layernorm", mlp_norm="post_feedforward_layernorm")
_GEMMA = replace(_POST_NORM, one_plus=True)
_GEMMA4 = replace(_POST_NORM, stream_scale="layer_scalar", per_layer="post_per_layer_input_norm")
_GATED_DELTA = _Paths(mixers=(_ATTENTION, _Mixer("mixer", "linear_attn.out_proj", "linear_num_value_heads")))
_GRANITE = _Paths(mlp=("mlp", "block_sparse_moe", "shared_mlp"), scale="residual_multiplier")
_LFM2 = _Paths(mixers=(_OUT_PROJ, _Mixer("mixer", "conv.out_proj")), mlp=("feed_forward",))

PATHS: dict[str, _Paths] = {
    "gpt2": _Paths("transformer.h", (_attention("attn.c_proj"),)),
    "gpt_bigcode": _Paths("transformer.h", (_attention("attn.c_proj"),)),
    "gpt_neo": _Paths("transformer.h", (_attention("attn.attention.out_proj"),)),
    "gptj": _Paths("transformer.h", (_attention("attn.out_proj"),)),
    "codegen": _Paths("transformer.h", (_attention("attn.out_proj"),)),
    "neox": _Paths("gpt_neox.layers", (_attention("attention.dense"),)),
    "neox_sequential": _Paths("gpt_neox.layers", (_attention("attention.dense"),)),
    "opt": _Paths("model.decoder.layers", (_OUT_PROJ,), ("fc2",)),
    # The modules of BLOOM and MPT add the stream themselves, so the linear map at their end is read instead.
    "bloom": _Paths("transformer.h", (_attention("self_attention.dense"),), ("mlp.dense_4h_to_h",)),
    "mpt": _Paths("transformer.blocks", (_attention("attn.out_proj"),), ("ffn.down_proj",)),
    "falcon": _Paths("transformer.h", (_attention("self_attention.dense"),)),
    "falcon_sequential": _Paths("transformer.h", (_attention("self_attention.dense"),)),
    "xglm": _Paths(mixers=(_OUT_PROJ,), mlp=("fc2",)),
    "phi": _Paths(mixers=(_attention("self_attn.dense"),)),
    **dict.fromkeys(
        (
            *("llama", "llama_biases", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma"),
            *("vaultgemma", "olmo", "olmoe", "phi3", "stablelm", "stablelm_parallel", "cohere", "cohere_qk_norm"),
            *("cohere2", "starcoder2", "nemotron", "smollm3", "glm", "gpt_oss", "ernie4_5", "hunyuan", "seed_oss"),
            *("arcee", "apertus", "bitnet", "deepseek_v2", "deepseek_v3", "youtu", "glm4_moe", "minimax_m2"),
        ),
        _LLAMA,
    ),
    "qwen3_vl_images": replace(_LLAMA, blocks="model.language_model.layers"),
    **dict.fromkeys(("olmo2", "olmo3", "exaone4", "flex_olmo"), _POST_NORM),
    **dict.fromkeys(("gemma2", "gemma3"), _GEMMA),
    "gemma4": _GEMMA4,
    "gemma4_moe": _GEMMA4,
    "glm4": replace(_LLAMA, attn_norm="post_self_attn_layernorm", mlp_norm="post_mlp_layernorm"),
    "afmoe": replace(_LLAMA, attn_norm="post_attention_layernorm", mlp_norm="post_mlp_layernorm"),
    "granite": _GRANITE,
    "granite_moe": _GRANITE,
    "granite_moe_hybrid": replace(_GRANITE, mixers=(_ATTENTION, _Mixer("mixer", "mamba.out_proj", "mamba_n_heads"))),
    **dict.fromkeys(("qwen3_next", "qwen3_5", "qwen3_5_moe"), _GATED_DELTA),
    # Its linear layers have no norm behind the mixer, and keep another norm under the attention layers' name.
    "olmo_hybrid": replace(
        _POST_NORM, mixers=(_ATTENTION, _Mixer("mixer", "linear_attn.o_proj", "linear_num_value_heads"))
    ),
    "lfm2": _LFM2,
    "lfm2_moe": _LFM2,
    "falcon_h1": _Paths(
        mixers=(
            _attention("self_attn.o_proj", scale="attn_out_multiplier"),
            _Mixer("mixer", "mamba.out_proj", "mamba_n_heads", "ssm_out_multiplier"),
        ),
        mlp=("feed_forward",),
    ),
    "nemotron_h": _Paths(
        mixers=(_attention("mixer.o_proj"), _Mixer("mixer", "mixer.out_proj", "mamba_num_heads")),
        mlp=("mixer",),
        alone=True,
    ),
    "jamba": _Paths(mixers=(_ATTENTION, _Mixer("mixer", "mamba.out_proj")), mlp=("feed_forward",)),
    "bamba": _Paths(mixers=(_ATTENTION, _Mixer("mixer", "mamba.out_proj", "mamba_n_heads")), mlp=("feed_forward",)),
    "zamba2": _Paths(
        mixers=(
            _Mixer("mixer", "mamba.out_proj", "n_mamba_heads"),
            _Mixer("mixer", "mamba_decoder.mamba.out_proj", "n_mamba_heads"),
        ),
        mlp=(),
    ),
    "recurrent_gemma": _Paths(
        mixers=(_attention("temporal_block.o_proj"), _Mixer("mixer", "temporal_block.linear_out")), mlp=("mlp_block",)
    ),
    "mamba": _Paths("backbone.layers", (_Mixer("mixer", "mixer.out_proj"),), ()),
    "falcon_mamba": _Paths("backbone.layers", (_Mixer("mixer", "mixer.out_proj"),), ()),
    "mamba2": _Paths("backbone.layers", (_Mixer("mixer", "mixer.out_proj", "num_heads"),), ()),
}


def reference_writes(family: str, model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    """What the blocks, their parts and their heads add to the residual stream, each ``[batch, pos, d_model]``.

    Keys: ``blocks.i`` (the block's output less its input), ``blocks.i.attn``, ``blocks.i.mixer`` (what stands in the
    place of attention or beside it), ``blocks.i.mlp``, and ``blocks.i.attn.head.h``, ``blocks.i.mixer.head.h``.
    With embeddings for each layer there is ``blocks.i.per_layer``; where the stream itself is multiplied there is
    ``blocks.i.carried``, what that alone adds. The parts add up to the block. The heads of a part add up to it but for
    the bias of its last linear map. A norm behind the attention is one factor a position, its scale held fixed.

    Args:
        family: a key of :data:`PATHS`; of any other the modules are looked for where Llama has them.
        model: the Hugging Face model, not yet inside a bridge.
        tokens: its input, ``[batch, pos]``.
    """
    paths = PATHS.get(family, _LLAMA)
    blocks = model.get_submodule(paths.blocks)
    seen, handles = _watch(blocks, paths)
    try:
        with torch.no_grad():
            model(tokens, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    writes: dict[str, Tensor] = {}
    for i, block in enumerate(blocks):
        for name, value in _block_writes(block, seen[i], paths, model.config.get_text_config()):
            writes[f"blocks.{i}{name}"] = value
    return writes


def _watch(blocks: nn.ModuleList, paths: _Paths) -> tuple[list[dict[str, tuple[Tensor, Tensor]]], list[Any]]:
    """Keep the input and output of each block and of its parts; the block itself has the empty name."""
    names = ["", *paths.mlp, paths.attn_norm, paths.mlp_norm, paths.per_layer, *(mixer.out for mixer in paths.mixers)]
    seen: list[dict[str, tuple[Tensor, Tensor]]] = [{} for _ in blocks]
    handles = []
    for block, kept in zip(blocks, seen, strict=True):
        parts = dict(block.named_modules())
        for name in {name for name in names if parts.get(name) is not None}:

            def keep(_, args, kwargs, output, name=name, kept=kept) -> None:
                given = args[0] if args else kwargs["hidden_states"]
                made = output[0] if isinstance(output, tuple | list) else output
                kept[name] = given.detach().clone(), made.detach().clone()

            handles.append(parts[name].register_forward_hook(keep, with_kwargs=True))
    return seen, handles


def _block_writes(block: nn.Module, seen: dict, paths: _Paths, config: Any) -> Iterator[tuple[str, Tensor]]:
    """The names and values of one block's writes."""
    before, after = seen[""]
    everything = getattr(block, paths.stream_scale).detach() if paths.stream_scale else 1.0
    scale = getattr(block, paths.scale) * everything if paths.scale else everything
    yield "", after - before
    mixers = [mixer for mixer in paths.mixers if mixer.out in seen]
    for mixer in mixers:
        z, out = seen[mixer.out]
        factor = scale * (getattr(block, mixer.scale) if mixer.scale else 1.0)
        normed = mixer.part == "attn" and paths.attn_norm in seen and paths.attn_norm
        if normed:
            yield f".{mixer.part}", seen[paths.attn_norm][1] * factor
            factor = factor * _norm_factor(block.get_submodule(paths.attn_norm), out, paths.one_plus)
        else:
            yield f".{mixer.part}", out * factor
        if mixer.heads:
            for head, write in enumerate(_heads(block.get_submodule(mixer.out), z, getattr(config, mixer.heads))):
                yield f".{mixer.part}.head.{head}", write * factor
    found = [name for name in paths.mlp if name in seen]
    if found and not (paths.alone and mixers):
        normed = bool(paths.mlp_norm) and paths.mlp_norm in seen
        made = seen[paths.mlp_norm][1] if normed else sum(seen[name][1] for name in found)
        yield ".mlp", scale * made.reshape(before.shape)  # OPT's MLP works on a flat list of positions
    if paths.per_layer and paths.per_layer in seen:
        yield ".per_layer", everything * seen[paths.per_layer][1]
    if paths.stream_scale:
        yield ".carried", (everything - 1) * before


def _heads(linear: nn.Module, z: Tensor, heads: int) -> list[Tensor]:
    """Each head's slice of the input times its slice of the weight."""
    weight = linear.weight.detach()
    weight = weight if isinstance(linear, nn.Linear) else weight.T  # GPT-2's Conv1D keeps it the other way round
    z = z.flatten(2)
    width = z.shape[-1] // heads
    slices = [slice(head * width, (head + 1) * width) for head in range(heads)]
    return [z[..., part] @ weight[:, part].T for part in slices]


def _norm_factor(norm: nn.Module, given: Tensor, one_plus: bool) -> Tensor:
    """What an RMS norm multiplies each component by, at each position."""
    eps = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    gain = norm.weight.detach() + float(one_plus)
    return gain / (given.pow(2).mean(-1, keepdim=True) + eps).sqrt()
