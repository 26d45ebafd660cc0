"""Pairs that are small: adapters over the target's own weights, short prompts, several slots for the vector."""

from dataclasses import dataclass, field
from typing import Any

import torch

from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.model.cut import cut_backbone
from tl_nla.model.families import check_causal_lm, trainable_copy
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.fresh import mean_embedding_norm
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.marker import choose_marker, make_room
from tl_nla.nla.pair import NLA
from tl_nla.nla.prompts import PromptStyle, build_verbalizer_prompt
from tl_nla.nla.reconstructor import Reconstructor
from tl_nla.nla.reference import LoraSettings, add_lora
from tl_nla.nla.verbalizer import Verbalizer

AV_TEMPLATE = "State: {injection_char}\n"
AR_TEMPLATE = "\n{explanation}"
"""Nothing stands behind the explanation: its last word is read as the target itself reads a last word."""


@dataclass(frozen=True)
class AdaptedPair:
    """What a small pair is made of.

    Attributes:
        layer: block whose output is explained; two thirds of the way up when ``None``.
        slots: tokens that carry the vector, each through a learned map of its own.
        lora: adapters of both parts.

    Raises:
        InputError: for a layer below 0, or no slot.
    """

    layer: int | None = None
    slots: int = 8
    lora: LoraSettings = field(default_factory=lambda: LoraSettings(8, 16.0, dtype="bfloat16"))

    def __post_init__(self) -> None:
        if self.layer is not None:
            check_count("layer", self.layer, 0)
        check_count("slots", self.slots)

    def layer_of(self, blocks: int) -> int:
        """The layer in a model of so many blocks.

        Raises:
            InputError: when it has no such block.
        """
        layer = blocks * 2 // 3 if self.layer is None else self.layer
        if layer >= blocks:
            raise InputError(f"layer {layer} does not exist; the model has layers 0 to {blocks - 1}")
        return layer


def adapted_nla(model: Any, tokenizer: Any, config: AdaptedPair | None = None) -> NLA:
    """An untrained pair of adapters over a model's own weights.

    The verbalizer is the whole model, the reconstructor its first blocks up to the layer. Trained are low-rank
    adapters, a map a slot, and the reconstructor's head. The answer is the explanation alone, without tags.

    Args:
        model: a Hugging Face causal language model; left as it is.
        tokenizer: its tokenizer.
        config: layer, slots, adapters.

    Raises:
        InputError: when the model, the layer or the tokenizer cannot be used, or PEFT is not installed.

    Example:
        >>> nla = adapted_nla(model, tokenizer, AdaptedPair(layer=20))
    """
    config = config or AdaptedPair()
    check_causal_lm(model)
    layer = config.layer_of(int(model.config.get_text_config().num_hidden_layers))
    marker = choose_marker(tokenizer, [AV_TEMPLATE], [config.slots])
    prompt = build_verbalizer_prompt(marker.tokenizer, AV_TEMPLATE, marker.char, config.slots, PromptStyle(chat=False))
    reconstructor = Reconstructor(cut_backbone(model, layer + 1), marker.tokenizer, AR_TEMPLATE)
    injection = InjectionConfig("affine", mean_embedding_norm(model), config.slots)
    verbalizer = Verbalizer(trainable_copy(model), marker.tokenizer, prompt, injection, AnswerRule("all"))
    for part in (verbalizer.model, reconstructor.backbone):
        make_room(part, marker)
    nla = NLA(verbalizer, reconstructor, layer, str(getattr(model.config, "_name_or_path", "")))
    add_lora(nla, config.lora)
    nla.adapted = config
    verbalizer.injection.to(verbalizer.device, torch.float32).requires_grad_(True)
    return nla
