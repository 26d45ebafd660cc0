"""The same readings by other means: TransformerLens's cache, hooks on the Hugging Face model, nnsight."""

import importlib.util
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from tl_nla.model.families import decoder_layers, text_backbone
from tl_nla.model.loading import quiet


@torch.no_grad()
def cached(model: Any, tokens: Tensor, sites: Sequence[str]) -> Tensor:
    """States by ``run_with_cache`` that keeps these points only, ``[site, row, d_model]``."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in sites)
    return torch.stack([cache[site].flatten(0, 1) for site in sites])


@torch.no_grad()
def cached_heads(model: Any, tokens: Tensor, places: Sequence[int]) -> Tensor:
    """Writes of all heads by ``run_with_cache`` and ``use_attn_result``, ``[layer, row, head, d_model]``."""
    names = [f"blocks.{layer}.attn.hook_result" for layer in range(model.cfg.n_layers)]
    before = model.cfg.use_attn_result
    model.set_use_attn_result(True)
    try:
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in names)
    finally:
        model.set_use_attn_result(before)
    return torch.stack([cache[name][:, list(places)].flatten(0, 1) for name in names])


@torch.no_grad()
def own_heads(model: Any, tokens: Tensor, places: Sequence[int]) -> Tensor:
    """Writes of all heads as float32 products of the run's own ``hook_z``, ``[layer, row, head, d_model]``."""
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in names)
    found = []
    for layer, name in enumerate(names):
        weight = model.blocks[layer].attn.W_O.float()
        inputs = cache[name][:, list(places)].float().flatten(0, 1).reshape(-1, *weight.shape[:2])
        found.append(torch.einsum("rhk,hkd->rhd", inputs, weight))
    return torch.stack(found)


@torch.no_grad()
def hooked(plain: Any, tokens: Tensor, layers: Sequence[int]) -> Tensor:
    """States by forward hooks on the blocks of the Hugging Face model, whose head is not run."""
    found: dict[int, Tensor] = {}
    blocks: Any = decoder_layers(plain)

    def keep(layer: int) -> Any:
        def hook(module: Any, given: Any, output: Any) -> None:
            found[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [blocks[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        _run(plain, tokens)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([found[layer].flatten(0, 1) for layer in layers])


@torch.no_grad()
def hooked_heads(plain: Any, tokens: Tensor, places: Sequence[int], heads: int) -> Tensor:
    """Writes of all heads from the inputs of the out-projections, which hooks on the Hugging Face model see."""
    inputs: dict[int, Tensor] = {}
    blocks: Any = decoder_layers(plain)
    last = [block.attn.c_proj if hasattr(block, "attn") else block.self_attn.o_proj for block in blocks]

    def keep(layer: int) -> Any:
        def hook(module: Any, given: Any) -> None:
            inputs[layer] = given[0][:, list(places)].flatten(0, 1)

        return hook

    handles = [module.register_forward_pre_hook(keep(layer)) for layer, module in enumerate(last)]
    try:
        _run(plain, tokens)
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for layer, module in enumerate(last):
        weight = module.weight if type(module).__name__ == "Conv1D" else module.weight.T
        z = inputs[layer].unflatten(-1, (heads, -1))
        found.append(torch.einsum("nhd,hdm->nhm", z, weight.unflatten(0, (heads, -1))))
    return torch.stack(found)


def _run(plain: Any, tokens: Tensor) -> None:
    backbone: Any = text_backbone(plain)
    backbone(input_ids=tokens, use_cache=False)


def has_nnsight() -> bool:
    """Whether nnsight is installed here."""
    return importlib.util.find_spec("nnsight") is not None


class NNsight:
    """nnsight around the Hugging Face model, wrapped once."""

    def __init__(self, plain: Any) -> None:
        import nnsight

        with quiet():
            self.model = nnsight.NNsight(plain)
        blocks = decoder_layers(plain)
        self.path = next(name for name, module in plain.named_modules() if module is blocks)

    @torch.no_grad()
    def states(self, tokens: Tensor, layers: Sequence[int]) -> Tensor:
        """States by one trace, logits of one position only."""
        found: list[Any] = []
        blocks: Any = attrgetter(self.path)(self.model)
        with self.model.trace(tokens, logits_to_keep=1, use_cache=False):
            for layer in layers:
                found.append(blocks[layer].output.save())
        states = [one[0] if isinstance(one, tuple) else one for one in found]
        return torch.stack([one.flatten(0, 1) for one in states])


@torch.no_grad()
def logit_attribution(model: Any, tokens: Tensor, predicted: Tensor) -> Tensor:
    """Logits of tokens from embeddings, attentions and MLPs by ``decompose_resid`` and ``logit_attrs``, centred."""
    _, cache = model.run_with_cache(tokens)
    parts = cache.decompose_resid(mode="all")
    scaled = cache.apply_ln_to_stack(parts, layer=-1)
    return torch.einsum("cbpd,dbp->cbp", scaled.float(), model.W_U[:, predicted].float())
