"""One pass of a model that reduces each layer's attention at once and keeps the writes of heads at a few positions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.facts import branches_of
from tl_nla.model.heads import out_projection
from tl_nla.model.hooks import HookPair, tap
from tl_nla.model.narrow import unread_logits
from tl_nla.model.probe import lock_of, probe_tokens
from tl_nla.model.reading import head_sum, read

SOURCES = 3
"""Sources of each write that are kept."""
Reduce = Callable[[Float[Tensor, "batch head query pos"]], Tensor]


@dataclass(frozen=True)
class LayerRead:
    """What one batch told of a layer.

    Attributes:
        sums: what the pattern was reduced to.
        z: of each head at each drawn position, what its out-projection turns into the write; ``None`` when no positions
            were drawn. A norm behind the attention is divided by already.
        source: columns of the strongest sources, the first token and the position itself left out.
        share: their attention.
    """

    sums: Float[Tensor, "head sum"]
    z: Float[Tensor, "n head width"] | None = None
    source: Int[Tensor, "n head k"] | None = None
    share: Float[Tensor, "n head k"] | None = None


def layers_with_heads(model: Any, wanted: Sequence[int] | None) -> tuple[dict[int, int], list[str]]:
    """How many attention heads each layer has, and why others have no cards.

    Raises:
        InputError: for layers out of range, or when no layer has heads that can be told.
    """
    count = int(model.cfg.n_layers)
    chosen = list(range(count)) if wanted is None else sorted(set(wanted))
    if not chosen or any(not 0 <= layer < count for layer in chosen):
        raise InputError(f"layers are {chosen}; give one or more of 0 to {count - 1}")
    known, found, notes = model.hook_dict, {}, []
    for layer in chosen:
        try:
            if len(branches_of(model, layer, "attn")[1]) != 1:
                raise InputError("its attention is added in several pieces")
            if f"blocks.{layer}.attn.hook_pattern" not in known:
                raise InputError(f"no hook point blocks.{layer}.attn.hook_pattern shows where it looks")
            found[layer] = out_projection(model, layer).heads
        except InputError as error:
            notes.append(f"Layer {layer} has no cards: {error}")
    if not found:
        raise InputError(f"no layer has attention heads that can be told. {notes[0]}")
    return found, notes


@torch.no_grad()
def watched_pass(
    model: Any, tokens: Int[Tensor, "batch pos"], layers: Sequence[int], reduce: Reduce,
    drawn: tuple[Int[Tensor, " n"], Int[Tensor, " n"]] | None = None,
) -> dict[int, LayerRead | str]:  # fmt: skip
    """Run the model once.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``; left as it is found.
        tokens: token ids.
        layers: which are told.
        reduce: what is kept of a pattern.
        drawn: rows and columns at which writes are kept.

    Returns:
        For each layer what was read, or why it could not be.
    """
    found: dict[int, LayerRead | str] = {}
    pairs: list[HookPair] = []
    for layer in layers:
        pairs += _pairs(model, layer, reduce, drawn, found)
    last = max(layers)
    arguments = {"stop_at_layer": last + 1} if last + 1 < int(model.cfg.n_layers) else {}
    with lock_of(model), tap(model, pairs), unread_logits(model):
        model(tokens, **arguments)
    return {layer: found.get(layer, "its hook points never fired; load the model with eager attention")
            for layer in layers}  # fmt: skip


def _pairs(
    model: Any, layer: int, reduce: Reduce, drawn: tuple[Tensor, Tensor] | None, found: dict[int, LayerRead | str]
) -> list[HookPair]:
    kept: dict[str, Tensor] = {}
    inner, outer = out_projection(model, layer).point, branches_of(model, layer, "attn")[1][0].point
    reads: dict[str, Any] = {}

    def look(pattern: Tensor, hook: Any) -> None:
        values = pattern.detach()
        reads["sums"] = reduce(values).cpu()
        if drawn is not None:
            source, share = _sources(values, *drawn)
            reads.update(source=source.cpu(), share=share.cpu())

    def keep(name: str) -> Callable[..., None]:
        def function(value: Tensor, hook: Any) -> None:
            if drawn is not None:
                kept[name] = value.detach()[drawn]

        return function

    def finish(value: Tensor, hook: Any) -> None:
        if "sums" not in reads:
            return
        try:  # the pass goes on for the other layers
            if drawn is not None:
                total = head_sum(model, layer, "attn", kept)
                reads["z"] = (total.z / (total.scale[:, None] if total.scale.ndim else total.scale)).cpu()
            found[layer] = LayerRead(**reads)
        except InputError as error:
            found[layer] = str(error)
        kept.clear()

    points = dict.fromkeys((inner, outer)) if drawn is not None else {}
    return [(f"blocks.{layer}.attn.hook_pattern", look), *((name, keep(name)) for name in points),
            (f"blocks.{layer}.hook_resid_post", finish)]  # fmt: skip


def _sources(pattern: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """The strongest sources of some queries; -1 where there is none."""
    own = pattern[row, :, column].float().clone()
    own[..., 0] = 0.0
    own.scatter_(2, column[:, None, None].expand(-1, own.shape[1], 1), 0.0)
    share, source = own.topk(min(SOURCES, own.shape[-1]), dim=-1)
    return source.masked_fill(share <= 0, -1), share


def layer_weight(model: Any, layer: int) -> Float[Tensor, "head width d_model"]:
    """What turns ``LayerRead.z`` into writes, from a short run."""
    return read(model, probe_tokens(model), [f"blocks.{layer}.attn.head.0"]).sum_of_heads(layer).weight
