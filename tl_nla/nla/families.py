"""Where each Hugging Face model family keeps its blocks and its final norm."""

from typing import Any

from torch import nn

from tl_nla.errors import InputError

_LAYERS = ("layers", "h", "blocks")
_FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f")


def text_backbone(model: Any) -> Any:
    """The module that turns embeddings into hidden states, without the language-model head.

    Multimodal models give their text part.
    """
    inner = getattr(model, "language_model", model)
    backbone = getattr(inner, getattr(inner, "base_model_prefix", "") or "model", inner)
    backbone = getattr(backbone, "language_model", backbone)
    if not any(hasattr(backbone, name) for name in _LAYERS):
        raise InputError(f"{type(model).__name__} keeps its blocks under none of {_LAYERS}; it cannot be used")
    return backbone


def layers_name(backbone: Any) -> str:
    """Name of the block list of a backbone."""
    return next(name for name in _LAYERS if hasattr(backbone, name))


def decoder_layers(model: Any) -> nn.ModuleList:
    """The blocks of a causal language model."""
    backbone = text_backbone(model)
    return getattr(backbone, layers_name(backbone))


def final_norm_name(backbone: Any) -> str:
    """Name of the norm after the last block."""
    for name in _FINAL_NORMS:
        if hasattr(backbone, name):
            return name
    raise InputError(f"{type(backbone).__name__} has none of the final norms {_FINAL_NORMS}")
