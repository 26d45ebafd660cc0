"""The activation reconstructor (AR): the first K + 1 blocks of a language model that read a text back into a vector."""

import copy
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.nla.families import final_norm_name, layers_name, text_backbone
from tl_nla.nla.prompts import reconstructor_ids, suffix_ids

_PER_LAYER = ("layer_types", "no_rope_layers", "attention_layers", "attention_types")
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")


class Reconstructor(nn.Module):
    """AR of an NLA.

    Args:
        backbone: a decoder without its head, cut to the blocks that are used and with an identity final norm.
        tokenizer: its tokenizer.
        template: raw prompt with ``{explanation}``.
        d_act: size of the reconstructed vectors; that of the backbone when ``None``.
    """

    def __init__(self, backbone: nn.Module, tokenizer: Any, template: str, d_act: int | None = None) -> None:
        super().__init__()
        self.backbone, self.tokenizer, self.template = backbone, tokenizer, template
        width = int(backbone.get_input_embeddings().embedding_dim)  # type: ignore[operator]
        self.head = nn.Linear(width, d_act or width, bias=False)
        nn.init.eye_(self.head.weight)
        self.suffix = suffix_ids(tokenizer, template)

    @property
    def device(self) -> torch.device:
        """Where the head is."""
        return self.head.weight.device

    def forward(self, input_ids: Int[Tensor, "n pos"], attention_mask: Tensor) -> Float[Tensor, "n d_act"]:
        """The vector read at each row's last real token.

        Args:
            input_ids: right-padded prompts.
            attention_mask: true (or 1) where a token is real.

        Returns:
            Vectors in float32; their length means nothing, only their direction was trained.
        """
        # Right padding cannot reach an earlier position of a causal model, so no mask is handed over.
        hidden = self.backbone(input_ids=input_ids, use_cache=False).last_hidden_state
        last = attention_mask.long().sum(1) - 1
        return self.head(hidden[torch.arange(len(hidden), device=hidden.device), last].float())

    def encode(self, texts: list[str]) -> tuple[Int[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
        """Prompts of explanations, right-padded, with their mask.

        Raises:
            InputError: for an empty list, or when a prompt lost its suffix (it was cut, or merged away).
        """
        if not texts:
            raise InputError("no explanations were given; at least one text is needed")
        rows = [reconstructor_ids(self.tokenizer, self.template, text) for text in texts]
        for row, text in zip(rows, texts, strict=True):
            if row[-len(self.suffix) :] != self.suffix:
                raise InputError(f"the prompt of {text[:40]!r} does not end in the template's suffix; shorten the text")
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        fill = int(pad if pad is not None else (self.tokenizer.eos_token_id or 0))
        ids = torch.tensor([row + [fill] * (width - len(row)) for row in rows])
        mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
        return ids, mask

    @torch.no_grad()
    def reconstruct(self, texts: list[str], batch_size: int = 256) -> Float[Tensor, "n d_act"]:
        """Vectors of explanations, in order; texts of similar length share a batch."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        if not order:
            raise InputError("no explanations were given; at least one text is needed")
        training = self.training
        self.eval()
        vectors = torch.empty(len(texts), self.head.out_features)
        try:
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                ids, mask = self.encode([texts[row] for row in rows])
                vectors[rows] = self(ids.to(self.device), mask.to(self.device)).cpu()
        finally:
            self.train(training)
        return vectors


def cut_backbone(model: Any, blocks: int) -> nn.Module:
    """A copy of the first ``blocks`` blocks of a causal language model, without its final norm and head.

    The output of the copy is the output of block ``blocks - 1`` (for the last block: before the final norm,
    unlike ``hidden_states[-1]`` of the whole model).

    Args:
        model: a Hugging Face causal language model; left as it is.
        blocks: how many blocks are kept.

    Raises:
        InputError: when the model has fewer blocks.
    """
    backbone = text_backbone(model)
    name = layers_name(backbone)
    layers = getattr(backbone, name)
    if not 1 <= blocks <= len(layers):
        raise InputError(f"layer {blocks - 1} does not exist; the model has layers 0 to {len(layers) - 1}")
    memo: dict[int, Any] = {id(layer): None for layer in layers[blocks:]}
    copied = copy.deepcopy(backbone, memo)
    setattr(copied, name, nn.ModuleList(list(getattr(copied, name))[:blocks]))
    setattr(copied, final_norm_name(copied), nn.Identity())
    _cut_config(copied.config, blocks)
    return copied


def _cut_config(config: Any, blocks: int) -> None:
    """Make the configuration say what is left, per-layer lists included."""
    for name in _COUNTS:
        if name in config.to_dict():
            setattr(config, name, blocks)
    for name in _PER_LAYER:
        value = getattr(config, name, None)
        if isinstance(value, list):
            setattr(config, name, value[:blocks])
