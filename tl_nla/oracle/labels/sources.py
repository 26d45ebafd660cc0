"""Which earlier tokens each head read, for all heads, layers and positions of a batch in one forward pass.

A head's write at position t is ``sum over s of pattern[t, s] * value[s] W_O`` (plus biases), so the share of source s
is ``pattern[t, s] * ||value[s] W_O||`` (Kobayashi et al. 2020, "Attention is not only a weight"). The norm comes from
the head's Gram matrix, ``||v W_O||^2 = v (W_O W_O^T) v^T``, so that no ``[batch, pos, head, d_model]`` tensor exists.
Each layer is reduced to its strongest sources before the next one runs.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.facts import branches_of, check_deterministic
from tl_nla.model.heads import HeadSum, out_projection
from tl_nla.model.hooks import HookPair, tap
from tl_nla.model.narrow import unread_logits
from tl_nla.model.positions import real_tokens
from tl_nla.model.probe import lock_of
from tl_nla.model.reading import check_tokens, head_sum
from tl_nla.model.readout import config_value

_AHEAD = 1e-3
LOCAL = 15
"""Sources at most this many tokens back are local: nearly free from the context (science notes, section 4a)."""


@dataclass(frozen=True)
class HeadSources:
    """What each head read at each position; all weights are shares of the head's total, so they add up to 1.

    Attributes:
        layers: which layers, in order.
        distant: columns of the strongest sources more than ``LOCAL`` back, strongest first; -1 where there are fewer.
        distant_weight: their shares; 0 where there are fewer.
        local: columns of the strongest sources 1 to ``LOCAL`` back.
        local_weight: their shares.
        sink: share of the row's first token (its own position excepted).
        itself: share of the position itself.
        distant_total: share of all distant sources, the sink left out.
        local_total: share of all local sources, the sink left out.
        norm: L2 norm of the head's write, in model units (behind a norm on the attention's output: as it reaches the
            residual stream).
        state_norm: L2 norm of the state that the attention's write is added to, in model units.
    """

    layers: tuple[int, ...]
    distant: Int[Tensor, "layer head batch pos k"]
    distant_weight: Float[Tensor, "layer head batch pos k"]
    local: Int[Tensor, "layer head batch pos k"]
    local_weight: Float[Tensor, "layer head batch pos k"]
    sink: Float[Tensor, "layer head batch pos"]
    itself: Float[Tensor, "layer head batch pos"]
    distant_total: Float[Tensor, "layer head batch pos"]
    local_total: Float[Tensor, "layer head batch pos"]
    norm: Float[Tensor, "layer head batch pos"]
    state_norm: Float[Tensor, "layer batch pos"]


@torch.no_grad()
def head_sources(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Tensor | None = None,
    layers: Sequence[int] | None = None,
    top_k: int = 3,
    together: bool = False,
) -> HeadSources:
    """Sources and strengths of every head at every position.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``; left exactly as it is found.
        tokens: token ids.
        attention_mask: 1 for tokens, 0 for padding, on either side. Values at padding mean nothing.
        layers: which layers; all when ``None``.
        top_k: how many sources are kept on each side of the distance limit.
        together: pool the heads of a layer before normalising: the sources of the whole attention write, with one
            entry on the head axis (``norm`` is then the sum of the heads' norms).

    Returns:
        The sources; nothing behind a position enters its row.

    Raises:
        InputError: for layers out of range or without values of their own, a ``top_k`` below 1, or heads whose writes
            do not add up.
    """
    chosen = tuple(range(int(model.cfg.n_layers))) if layers is None else tuple(layers)
    heads, attentions = ((), chosen) if together else (chosen, ())
    found = sources_of_both(model, tokens, attention_mask, heads, attentions, top_k)[int(together)]
    if found is None:
        raise InputError("layers are []; give one or more")
    return found


@torch.no_grad()
def sources_of_both(
    model: Any, tokens: Int[Tensor, "batch pos"], attention_mask: Tensor | None = None, heads: Sequence[int] = (),
    attentions: Sequence[int] = (), top_k: int = 3,
) -> tuple[HeadSources | None, HeadSources | None]:  # fmt: skip
    """Sources of single heads and of whole attentions in one forward pass; see :func:`head_sources`.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``; left exactly as it is found.
        tokens: token ids.
        attention_mask: 1 for tokens, 0 for padding.
        heads: layers whose heads are told one by one.
        attentions: layers whose heads are pooled.
        top_k: how many sources are kept on each side of the distance limit.

    Returns:
        Those of heads, and those of attentions; ``None`` where no layer was asked for.
    """
    if not {*heads, *attentions}:
        return None, None
    check_deterministic(model)
    check_tokens(model, tokens)
    watch = SourceWatch(model, real_tokens(tokens, attention_mask), heads, attentions, top_k)
    arguments: dict[str, Any] = {} if attention_mask is None else {"attention_mask": attention_mask}
    last = max({*heads, *attentions})
    if last + 1 < int(model.cfg.n_layers):
        arguments["stop_at_layer"] = last + 1
    with lock_of(model), tap(model, watch.pairs, watch.known), unread_logits(model):
        model(tokens, **arguments)
    return watch.found()


class SourceWatch:
    """Functions on hook points that reduce each layer to its strongest sources while a pass runs.

    Attributes:
        pairs: hook names and functions.
        sums: the attentions' writes as sums of their heads at these positions, as far as they were seen.
    """

    def __init__(
        self, model: Any, real: Tensor, heads: Sequence[int], attentions: Sequence[int], top_k: int = 3,
        columns: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        count, self.ways = int(model.cfg.n_layers), {False: tuple(heads), True: tuple(attentions)}
        chosen = sorted({*heads, *attentions})
        if any(not 0 <= layer < count for layer in chosen):
            raise InputError(f"layers are {list(chosen)}; give one or more of 0 to {count - 1}")
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; at least 1 source must be kept")
        self.model, self.real, self.top_k = model, real, top_k
        self.columns = list(range(real.shape[1])) if columns is None else [int(column) for column in columns]
        self.sums: dict[tuple[int, str], HeadSum] = {}
        self.known = model.hook_dict
        self.pairs: list[HookPair] = []
        self._kept: dict[str, Tensor] = {}
        self._reduced: dict[tuple[bool, int], tuple[Tensor, ...]] = {}
        self._failed: InputError | None = None
        for layer in chosen:
            if why := without_values(model, layer, self.known):
                raise InputError(
                    f"{why}. So what its heads read cannot be told; what they write can still be read "
                    f"('blocks.{layer}.attn', 'blocks.{layer}.attn.head.0') and left out"
                )
            points = _points(model, layer)
            self.pairs += [(name, self._keeper(name)) for name in points]
            self.pairs.append((f"blocks.{layer}.hook_resid_post", self._reducer(layer, points)))

    def found(self) -> tuple[HeadSources | None, HeadSources | None]:
        """Sources of single heads, and of whole attentions; ``None`` where no layer was asked for.

        Raises:
            InputError: what went wrong while the pass ran.
        """
        if self._failed is not None:
            raise self._failed
        if missing := [layer for layers in self.ways.values() for layer in layers if not self._seen(layer)]:
            raise InputError(f"blocks.{missing[0]}.hook_resid_post never fired, so what its heads read is not known")
        single, pooled = (_stacked(layers, together, self._reduced) for together, layers in self.ways.items())
        return single, pooled

    def _seen(self, layer: int) -> bool:
        return any((together, layer) in self._reduced for together in (False, True))

    def _keeper(self, name: str) -> Callable[..., None]:
        pattern, values = name.endswith("attn.hook_pattern"), name.endswith("attn.hook_v")
        whole = len(self.columns) == self.real.shape[1]

        def keep(activation: Tensor, hook: Any) -> None:
            seen = activation.detach()
            if not whole and not values:
                seen = seen[:, :, self.columns] if pattern else seen[:, self.columns]
            self._kept[name] = seen

        return keep

    def _reducer(self, layer: int, names: Sequence[str]) -> Callable[..., None]:
        wanted = [together for together, layers in self.ways.items() if layer in layers]

        def reduce(activation: Tensor, hook: Any) -> None:
            points = {name: self._kept.pop(name) for name in names if name in self._kept}
            if self._failed is not None:
                return
            try:  # the pass goes on: others may be watching it
                found, raw, norm, state = _layer_sources(self.model, layer, points)
                self.sums[layer, "attn"] = found
                for together in wanted:
                    own = (raw.sum(1, keepdim=True), norm.sum(0, keepdim=True)) if together else (raw, norm)
                    told = _summarise(own[0].transpose(0, 1), self.real, self.top_k, self.columns)
                    self._reduced[together, layer] = (*told, own[1], state)
            except InputError as error:
                self._failed = error

        return reduce


def _stacked(
    layers: tuple[int, ...], together: bool, reduced: dict[tuple[bool, int], tuple[Tensor, ...]]
) -> HeadSources | None:
    if not layers:
        return None
    columns = zip(*(reduced[together, layer] for layer in layers), strict=True)
    return HeadSources(layers, *(torch.stack(parts) for parts in columns))


def raw_source_weights(
    pattern: Float[Tensor, "batch head query pos"],
    value: Float[Tensor, "batch pos kv d_head"],
    weight: Float[Tensor, "head d_head d_model"],
    gain: Float[Tensor, "..."],
) -> Float[Tensor, "batch head query pos"]:
    """``pattern * ||value W_O gain||`` of every head, query and source, in model units.

    Args:
        pattern: attention probabilities, query before source.
        value: values of each key-value head; head h reads number ``h // (heads // kv)`` (grouped-query attention).
        weight: W_O of each head.
        gain: what multiplies the write on its way to the stream, a scalar or ``[d_model]``.
    """
    scaled = weight * gain
    return _weighed(pattern, value, scaled @ scaled.transpose(1, 2))


def _weighed(
    pattern: Float[Tensor, "batch head query pos"], value: Float[Tensor, "batch pos kv d_head"],
    gram: Float[Tensor, "head d_head d_head"],
) -> Float[Tensor, "batch head query pos"]:  # fmt: skip
    """The same from the products of each head's W_O with itself."""
    heads, groups = gram.shape[0], value.shape[2]
    grouped = gram.unflatten(0, (groups, heads // groups))
    left = torch.einsum("grde,bpge->bgrpd", grouped, value)
    square = (left * value.transpose(1, 2)[:, :, None]).sum(-1)
    return pattern * square.clamp_min(0).sqrt().flatten(1, 2)[:, :, None, :]


def without_values(model: Any, layer: int, known: Collection[str]) -> str | None:
    """Why a layer shows no values of its own, so that nothing tells what its heads read; ``None`` where it does."""
    if f"blocks.{layer}.attn.hook_v" in known:
        return None
    shared, same = config_value(model, "num_kv_shared_layers"), config_value(model, "attention_k_eq_v")
    if shared and layer >= int(model.cfg.n_layers) - int(shared):
        why = f"its attention takes keys and values of an earlier layer (num_kv_shared_layers is {shared})"
    elif same and f"blocks.{layer}.attn.hook_k" in known:
        why = "its attention takes its keys for values (attention_k_eq_v is on)"
    else:
        why = f"no hook point blocks.{layer}.attn.hook_v shows them"
    return f"layer {layer} has no values of its own: {why}"


def _points(model: Any, layer: int) -> list[str]:
    branch = branches_of(model, layer, "attn")[1][0]
    own = [f"blocks.{layer}.{name}" for name in ("hook_resid_pre", "attn.hook_pattern", "attn.hook_v")]
    return [*own, out_projection(model, layer).point, branch.point]


def _layer_sources(model: Any, layer: int, points: dict[str, Tensor]) -> tuple[HeadSum, Tensor, Tensor, Tensor]:
    """The heads, weight of every source ``[batch, head, pos, source]``, norms of the writes, and of the states."""
    prefix = f"blocks.{layer}."
    if f"{prefix}attn.hook_pattern" not in points:
        raise InputError(f"hook_pattern of layer {layer} never fired on this model; load it with eager attention")
    found = _head_sum(model, layer, points)
    length = found.scale.flatten() if found.scale.ndim else found.scale
    pattern, value = points[f"{prefix}attn.hook_pattern"], points[f"{prefix}attn.hook_v"]
    # A norm's scale is one number a position, the same for all sources, so shares do not need it.
    values = _values_by_head(value, found, pattern.shape[-1])
    gram = found.weight @ found.weight.transpose(1, 2)
    raw = _weighed(pattern.float(), values, gram)
    rows, batch = found.z, pattern.shape[0]
    square = (torch.einsum("nhd,hde->nhe", rows, gram) * rows).sum(-1).T
    norm = (square.clamp_min(0).sqrt() / length).unflatten(1, (batch, -1))
    return found, raw, norm, points[f"{prefix}hook_resid_pre"].float().norm(dim=-1)


def _head_sum(model: Any, layer: int, points: dict[str, Tensor]) -> HeadSum:
    seen = branches_of(model, layer, "attn")[1][0].point, out_projection(model, layer).point
    flat = {name: value.flatten(0, 1) for name, value in points.items() if name in seen}
    return head_sum(model, layer, "attn", flat)


def _values_by_head(value: Tensor, found: HeadSum, length: int) -> Float[Tensor, "batch pos kv d_head"]:
    """The values that the heads mix; their width is that of the heads' outputs.

    Raises:
        InputError: when they do not fit the heads, so that no source can be told.
    """
    width, heads = found.z.shape[-1], found.z.shape[-2]
    if value.ndim == 4 and value.shape[1] != length and value.shape[2] == length:
        value = value.transpose(1, 2)  # latent attention shows its values head by head
    flat = value if value.ndim == 3 else value.flatten(2)
    if flat.shape[-1] % width or heads % (flat.shape[-1] // width):
        raise InputError(
            f"values of shape {tuple(value.shape)} do not fit {heads} heads of width {width}: what these heads read "
            "cannot be told on this model"
        )
    return flat.float().unflatten(-1, (-1, width))


def _summarise(
    raw: Float[Tensor, "head batch query source"], real: Tensor, top_k: int, own: Sequence[int]
) -> tuple[Tensor, ...]:
    """Shares of sink, self, local and distant sources, and the strongest of the latter two, for queries ``own``."""
    share = raw / raw.sum(-1, keepdim=True).clamp_min(torch.finfo(raw.dtype).tiny)
    columns, queries = torch.arange(raw.shape[-1], device=raw.device), torch.tensor(own, device=raw.device)
    padding = ~real[:, own].to(raw.device)
    ahead = (share * (columns[None, :] > queries[:, None])).sum(-1).masked_fill(padding, 0.0)
    if not bool((ahead <= _AHEAD).all()):
        raise InputError(
            f"heads of this model read later positions ({ahead.max().item():.1%} of one head's write). It is no causal "
            "language model as it is run here, and shares of earlier tokens would mislead"
        )
    first = real.to(raw.device).long().argmax(-1)
    itself = share.gather(-1, queries[None, None, :, None].expand(*share.shape[:3], 1))[..., 0]
    index = first[None, :, None, None].expand(*share.shape[:3], 1)
    sink = share.gather(-1, index)[..., 0].masked_fill(queries == first[:, None], 0.0)
    rest = share.masked_fill(columns == first[:, None, None], 0.0)
    back = queries[:, None] - columns[None, :]
    near, far = (back >= 1) & (back <= LOCAL), back > LOCAL
    picked: list[Tensor] = []
    totals = []
    for side in (far, near):
        part = rest * side
        totals.append(part.sum(-1))
        picked += _strongest(part, top_k)
    return (*picked, sink, itself, *totals)


def _strongest(part: Float[Tensor, "head batch pos source"], top_k: int) -> tuple[Tensor, Tensor]:
    weight, column = part.topk(min(top_k, part.shape[-1]), dim=-1)
    short = top_k - weight.shape[-1]
    weight = torch.nn.functional.pad(weight, (0, short))
    column = torch.nn.functional.pad(column, (0, short)).masked_fill(weight == 0, -1)
    return column, weight
