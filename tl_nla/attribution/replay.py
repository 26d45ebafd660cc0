"""Run only the later blocks again, many left-out components side by side, each copy against the clean past.

A copy of a position must see the clean keys and values of the earlier positions and its own at its own. So the clean
ones are handed to the attention, and the one entry that is then wrong, the position's attention to itself, is put
right in the scores and in the head's output. That costs one attention of ordinary size for each component.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.attribution.capture import CleanRun, hooked
from tl_nla.attribution.components import Component
from tl_nla.errors import InputError

ROW_BUDGET = 2**24  # floating-point numbers of the largest intermediate tensor when components run side by side


@dataclass(frozen=True)
class Start:
    """Where a component's replay branches off the clean run.

    Attributes:
        layer: the first block that must run again.
        residual: the residual stream that enters it.
        edit: for a part of that block's attention, what to change there: a hook point's name and a function on the
            tensor of this component's rows.
    """

    layer: int
    residual: Float[Tensor, "batch pos d_model"]
    edit: tuple[str, Callable[[Tensor], Tensor]] | None = None


def start_of(model: Any, clean: CleanRun, component: Component, replacement: Tensor | None = None) -> Start:
    """Where to start the replay that leaves ``component`` out, or has it write ``replacement`` instead.

    Args:
        model: the TransformerLens model.
        clean: its clean run.
        component: what is left out.
        replacement: what is written instead, broadcasting to ``[batch, pos, d_model]``; None for nothing.

    Raises:
        InputError: the model has no point at which this component could be replaced.
    """
    kind, layer = component.kind, component.layer
    before = clean.at(layer, "hook_resid_pre")
    new = torch.zeros((), dtype=before.dtype, device=before.device) if replacement is None else replacement.to(before)
    if kind in ("block", "span"):
        return Start(component.last + 1, (before + new).expand_as(before))
    if kind == "mlp":
        return Start(layer + 1, _without_mlp(clean, layer) + new)
    if kind == "attn":
        return Start(layer, clean.inputs[layer], ("hook_attn_out", lambda write: new.expand_as(write).clone()))
    head = component.head
    if replacement is None:
        return Start(layer, clean.inputs[layer], ("attn.hook_z", lambda z: _zero_head(z, head)))
    if _has_post_norm(model, layer):
        raise InputError(
            f"{component}: this family normalises the sum of its heads, so another write cannot be put in one head's "
            "place; leave the head out, or replace the whole attention write"
        )
    old = _head_write(model, clean, component)
    return Start(layer, clean.inputs[layer], ("hook_attn_out", lambda write: write - old + new))


def _without_mlp(clean: CleanRun, layer: int) -> Tensor:
    before, after = clean.at(layer, "hook_resid_pre"), clean.at(layer, "hook_resid_post")
    attn, mlp = clean.at(layer, "hook_attn_out"), clean.at(layer, "hook_mlp_out")
    allowed = 128 * torch.finfo(after.dtype).eps * (1.0 + after.abs().max().item())
    if (before + attn + mlp - after).abs().max().item() > allowed:
        raise InputError(f"blocks.{layer} is not the sum of its input, attention and MLP: its MLP cannot be left out")
    return after - mlp


def _zero_head(z: Tensor, head: int | None) -> Tensor:
    z = z.clone()
    z[:, :, head] = 0
    return z


def _head_write(model: Any, clean: CleanRun, component: Component) -> Tensor:
    weight = model.blocks[component.layer].attn.W_O[component.head].detach()
    return clean.at(component.layer, "attn.hook_z")[:, :, component.head] @ weight


def _has_post_norm(model: Any, layer: int) -> bool:
    block = model.blocks[layer]
    return hasattr(block, "ln1_post") or bool(getattr(model.cfg, "use_normalization_before_and_after", False))


def replay(
    clean: CleanRun, starts: Sequence[Start], everywhere: bool = False
) -> Float[Tensor, "component batch pos d_model"]:
    """Run each start to the end of the blocks, all of them stacked as rows of one batch.

    Args:
        clean: the clean run that the starts branch off.
        starts: one for each component.
        everywhere: let later positions see the changed earlier ones (left out at all positions at once) instead of
            the clean ones (left out at that position only).

    Returns:
        The last residual stream of each component.
    """
    final: list[Tensor | None] = [None] * len(starts)
    active: list[int] = []
    stacked = clean.inputs[0][:0]
    layers = len(clean.calls)
    with torch.no_grad():
        for layer in range(layers):
            born = [i for i, start in enumerate(starts) if start.layer == layer]
            stacked = torch.cat([stacked, *(starts[i].residual for i in born)])
            active += born
            if active:
                edits = {row: starts[i].edit for row, i in enumerate(active) if i in born and starts[i].edit}
                stacked = _run_block(clean, layer, stacked, len(active), edits, everywhere)
        for row, i in enumerate(active):
            final[i] = stacked[row * clean.batch : (row + 1) * clean.batch]
    return torch.stack([starts[i].residual if done is None else done for i, done in enumerate(final)])


def _run_block(
    clean: CleanRun, layer: int, stacked: Tensor, copies: int, edits: Mapping[int, Any], everywhere: bool
) -> Tensor:
    pairs = [] if everywhere else _own_past(clean, layer, copies)
    for name in {name for name, _ in edits.values()}:
        rows = {row: function for row, (point, function) in edits.items() if point == name}
        pairs.append((_point(clean, layer, name), _edit_rows(rows, clean.batch)))
    with hooked(pairs):
        return clean.calls[layer](stacked, copies, clean.batch)


def _point(clean: CleanRun, layer: int, name: str) -> Any:
    point = clean.points.get(f"blocks.{layer}.{name}")
    if point is None:
        raise InputError(f"the model has no hook point blocks.{layer}.{name}, which this computation writes to")
    return point


def _edit_rows(rows: Mapping[int, Callable[[Tensor], Tensor]], batch: int) -> Callable[..., Tensor]:
    def function(value: Tensor, hook: Any) -> Tensor:
        parts = list(value.split(batch))
        for row, edit in rows.items():
            parts[row] = edit(parts[row])
        return torch.cat(parts)

    return function


def _own_past(clean: CleanRun, layer: int, copies: int) -> list[tuple[Any, Callable[..., Tensor | None]]]:
    """Hooks that show every position the clean earlier positions and its own changed self."""
    formula = clean.diagonals[layer]
    if formula is None:
        raise InputError(
            f"blocks.{layer}: no formula reproduces this model's attention scores of a position with itself, so "
            "leaving a component out at single positions would not be exact"
        )
    seen: dict[str, Tensor] = {}
    clean_key = _copies(clean.at(layer, formula.key_point), copies)
    clean_value = _copies(clean.at(layer, "attn.hook_v"), copies)

    def query(value: Tensor, hook: Any) -> None:
        seen["query"] = value

    def key(value: Tensor, hook: Any) -> Tensor:
        seen["key"] = value
        return clean_key

    def value(value: Tensor, hook: Any) -> Tensor:
        seen["value"] = value - clean_value
        return clean_value

    def scores(value: Tensor, hook: Any) -> Tensor:
        own = formula(seen.pop("query"), seen.pop("key")).to(value.dtype)
        return torch.diagonal_scatter(value, own, dim1=-2, dim2=-1)

    def pattern(value: Tensor, hook: Any) -> None:
        seen["weight"] = torch.diagonal(value, dim1=-2, dim2=-1)

    def z(value: Tensor, hook: Any) -> Tensor:
        change = seen.pop("value").repeat_interleave(formula.heads[0] // formula.heads[1], dim=2)
        weight = seen.pop("weight").transpose(1, 2).unsqueeze(-1)
        return value + (weight * change).to(value.dtype)

    named = {
        formula.query_point: query,
        formula.key_point: key,
        "attn.hook_v": value,
        "attn.hook_attn_scores": scores,
        "attn.hook_pattern": pattern,
        "attn.hook_z": z,
    }
    return [(_point(clean, layer, name), function) for name, function in named.items()]


def _copies(value: Tensor, copies: int) -> Tensor:
    return value.repeat(copies, *[1] * (value.ndim - 1))


def chunks(model: Any, clean: CleanRun, count: int, chunk: int | None) -> Iterator[slice]:
    """Split ``count`` components into groups that fit in memory side by side.

    Args:
        model: the TransformerLens model.
        clean: its clean run.
        count: how many components there are.
        chunk: components in a group; None to choose from the sizes.

    Raises:
        InputError: ``chunk`` is not positive.
    """
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk must be at least 1 component; found {chunk}")
    batch, length = clean.logits.shape[:2]
    widest = max(model.cfg.n_heads * length, getattr(model.cfg, "d_mlp", None) or 4 * model.cfg.d_model)
    size = chunk or max(1, ROW_BUDGET // (batch * length * widest))
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
