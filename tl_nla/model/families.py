"""Where each Hugging Face model family keeps its blocks and its final norm, and clean copies of their models."""

import copy
from typing import Any

from torch import nn

from tl_nla.errors import InputError

_LAYERS = ("layers", "h", "blocks")
_FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f")
_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip


def without_adapter(model: Any) -> Any:
    """The model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if is_adapted(model) else model


def is_adapted(model: Any) -> bool:
    """Whether a model is wrapped by PEFT."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def text_backbone(model: Any) -> Any:
    """The module that turns embeddings into hidden states, without the language-model head.

    Multimodal models give their text part, PEFT models what they wrap.

    Raises:
        InputError: when the family keeps its blocks where we do not find them.
    """
    inner = without_adapter(model)
    inner = getattr(inner, "language_model", inner)
    backbone = getattr(inner, getattr(inner, "base_model_prefix", "") or "model", inner)
    backbone = getattr(backbone, "language_model", backbone)
    if not any(isinstance(getattr(backbone, name, None), nn.ModuleList) for name in _LAYERS):
        raise InputError(f"{type(model).__name__} keeps its blocks under none of {_LAYERS}; it cannot be used")
    return backbone


def layers_name(backbone: Any) -> str:
    """Name of the block list of a backbone."""
    return next(name for name in _LAYERS if isinstance(getattr(backbone, name, None), nn.ModuleList))


def decoder_layers(model: Any) -> nn.ModuleList:
    """The blocks of a causal language model or of its backbone."""
    backbone = text_backbone(model)
    return getattr(backbone, layers_name(backbone))


def final_norm_name(backbone: Any) -> str:
    """Name of the norm after the last block."""
    for name in _FINAL_NORMS:
        if hasattr(backbone, name):
            return name
    raise InputError(f"{type(backbone).__name__} has none of the final norms {_FINAL_NORMS}")


def context_length(model: Any) -> int | None:
    """How many positions the model has, or ``None`` when its configuration does not say."""
    config = text_backbone(model).config
    value = getattr(config, "max_position_embeddings", None)
    return None if value is None else int(value)


def text_causal_lm(model: Any) -> Any:
    """The text-only causal language model inside a multimodal one (Gemma 3), sharing its weights; else the model."""
    if getattr(model.config, "text_config", None) is None:
        return model
    import torch
    from transformers import AutoModelForCausalLM

    backbone = text_backbone(model)
    with torch.device("meta"):
        text = AutoModelForCausalLM.from_config(backbone.config)
    setattr(text, text.base_model_prefix, backbone)
    text.set_output_embeddings(model.get_output_embeddings())
    text.generation_config = model.generation_config
    return text


def trainable_copy(module: Any, leave_out: Any = ()) -> Any:
    """A deep copy with every parameter trainable and without the hooks that sit on the original.

    Args:
        module: left as it is.
        leave_out: submodules that the copy gets as ``None``, so that their weights are never copied.
    """
    copied = copy.deepcopy(module, {id(part): None for part in leave_out})
    for part in copied.modules():
        for name in _HOOKS:
            if isinstance(getattr(part, name, None), dict):
                getattr(part, name).clear()
    return copied.requires_grad_(True)


def check_causal_lm(model: Any) -> None:
    """Refuse what no NLA can be made from.

    Raises:
        InputError: for anything but a Hugging Face model, and for one that a TransformerBridge has rewritten.
    """
    from transformers import PreTrainedModel

    inner = without_adapter(model)
    if not isinstance(inner, PreTrainedModel):
        raise InputError(f"an NLA is made from a Hugging Face causal language model; this is a {type(inner).__name__}")
    if any(type(part).__module__.startswith("transformer_lens") for part in inner.modules()):
        raise InputError("a TransformerBridge has rewritten this model in place; load it again from its folder")
    if inner.get_output_embeddings() is None:
        raise InputError(f"{type(inner).__name__} has no language-model head; give the causal language model")
