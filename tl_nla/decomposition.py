"""Per-head writes from ``hook_z``, exact for every family where the heads' sum is the attention's write."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError

_POST_NORMS = ("ln1_post", "ln1")
_SUMMING, _STORING = 256, 8
"""Rounding allowed when heads are summed (in float32) and when values are stored, in units of the precision."""


def post_norm_points(model: Any, layer: int, known: Collection[str] | None = None) -> list[str]:
    """Hook points of the scales that a norm on the attention's output may divide by.

    On most models ``ln1`` normalises the attention's input; on the early OLMo 2 bridge it stands behind the attention.
    Which one applies is read off the values, see :func:`head_write_factor`.

    Args:
        model: the TransformerLens model.
        layer: its block.
        known: ``model.hook_dict``, where it is at hand: bridges take milliseconds to build it.
    """
    known = model.hook_dict if known is None else known
    names = [f"blocks.{layer}.{norm}.hook_scale" for norm in _POST_NORMS]
    return [name for name in names if name in known]


def head_writes(
    model: Any, layer: int, z: Float[Tensor, "n n_heads d_head"], heads: list[int] | None = None
) -> Float[Tensor, "n heads d_model"]:
    """What each head adds before any norm: ``z[h] @ W_O[h]``, the output bias left out.

    Args:
        model: the TransformerLens model.
        layer: its block.
        z: ``hook_z`` at the chosen positions.
        heads: which heads; all when ``None``.
    """
    weight = model.blocks[layer].attn.W_O.detach().to(z)
    if heads is not None:
        z, weight = z[:, heads], weight[heads]
    return torch.einsum("nhd,hdm->nhm", z, weight)


def head_write_factor(
    model: Any, layer: int, z: Float[Tensor, "n n_heads d_head"], write: Float[Tensor, "n d_model"],
    scales: Mapping[str, Tensor],
) -> Float[Tensor, "..."]:  # fmt: skip
    """The factor that turns raw head writes into what reaches the residual stream.

    One for most families; with a norm behind the attention (Gemma 2 and 3, OLMo 2) its gain over its scale at each
    position, the scale held fixed. The factor is accepted only when the heads' sum plus the output bias, times the
    factor, equals the attention's write.

    Args:
        model: the TransformerLens model.
        layer: its block.
        z: ``hook_z`` at the chosen positions.
        write: ``hook_attn_out`` there.
        scales: values of :func:`post_norm_points` there, by hook name.

    Raises:
        InputError: when no such factor exists; the heads of this layer have no exact writes then.
    """
    weight = model.blocks[layer].attn.W_O.detach().to(z)
    total = torch.einsum("nhd,hdm->nm", z, weight) + attention_bias(model, layer).to(z)
    found = [(total * factor, factor) for factor in _candidates(model, layer, scales, write)]
    errors = [(sum_of_heads - write).abs().max().item() for sum_of_heads, _ in found]
    best = min(range(len(found)), key=errors.__getitem__)
    # Writes of one batch differ in size by orders of magnitude, so the largest one sets the rounding error.
    rounding = _SUMMING * torch.finfo(torch.float32).eps + _STORING * torch.finfo(write.dtype).eps
    if errors[best] <= rounding * write.abs().max().item():
        return found[best][1]
    raise InputError(
        f"the writes of the heads of layer {layer} do not add up to its attention write (an unknown norm or multiplier "
        f"stands between); read 'blocks.{layer}.attn' instead"
    )


def attention_bias(model: Any, layer: int) -> Float[Tensor, "..."]:
    """The attention's output bias, which belongs to no head; zero where there is none."""
    bias = getattr(model.blocks[layer].attn, "b_O", None)
    return torch.zeros(()) if bias is None else bias.detach()


def _candidates(model: Any, layer: int, scales: Mapping[str, Tensor], like: Tensor) -> Iterator[Tensor]:
    yield torch.ones((), dtype=like.dtype, device=like.device)
    for norm in _POST_NORMS:
        scale = scales.get(f"blocks.{layer}.{norm}.hook_scale")
        module = getattr(model.blocks[layer], norm, None)
        gain = next((g for name in ("weight", "w") if (g := getattr(module, name, None)) is not None), None)
        if scale is not None and isinstance(gain, Tensor):
            yield (gain.detach() / scale).to(like)
            yield ((1 + gain.detach()) / scale).to(like)
