"""The first blocks of a causal language model, without its final norm and head."""

from typing import Any

from torch import nn

from tl_nla.errors import InputError
from tl_nla.model.families import final_norm_name, layers_name, text_backbone, trainable_copy

_PER_LAYER = ("layer_types", "no_rope_layers", "attention_layers", "attention_types", "mlp_layer_types")


_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")


def cut_backbone(model: Any, blocks: int, copy: bool = True, keep_norm: bool = False) -> nn.Module:
    """The first ``blocks`` blocks of a causal language model, without its final norm and head.

    The output is the output of block ``blocks - 1``: for the last block the state before the final norm, unlike
    ``hidden_states[-1]`` of the whole model.

    Args:
        model: a Hugging Face causal language model.
        blocks: how many blocks are kept.
        copy: leave the model as it is and cut a copy with trainable parameters and no hooks.
        keep_norm: keep the final norm (adapters of others that were trained with it).

    Raises:
        InputError: when the model has fewer blocks.
    """
    backbone = text_backbone(model)
    name = layers_name(backbone)
    layers = getattr(backbone, name)
    if not 1 <= blocks <= len(layers):
        raise InputError(f"layer {blocks - 1} does not exist; the model has layers 0 to {len(layers) - 1}")
    if copy:
        backbone = trainable_copy(backbone, leave_out=layers[blocks:])
    setattr(backbone, name, nn.ModuleList(list(getattr(backbone, name))[:blocks]))
    if not keep_norm:
        setattr(backbone, final_norm_name(backbone), nn.Identity())
    _cut_config(backbone.config, blocks)
    return backbone


def _cut_config(config: Any, blocks: int) -> None:
    """Make the configuration say what is left, per-layer lists included."""
    # Lists first: transformers checks that their length fits the number of layers.
    for name in _PER_LAYER:
        value = getattr(config, name, None)
        if isinstance(value, list):
            setattr(config, name, value[:blocks])
    known = config.to_dict()
    for name in _COUNTS:
        if name in known:
            setattr(config, name, blocks)
