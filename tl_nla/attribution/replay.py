"""Run only the later blocks again, many left-out components side by side, each copy against the clean past.

A copy of a position must see the clean keys and values of the earlier positions and its own at its own. So the clean
ones are handed to the attention. One entry is then wrong, the position's attention to itself. It is put right in the
scores and in the head's output. That costs one attention of ordinary size for each component.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.attribution.clean_run import CleanRun, hooked
from tl_nla.attribution.components import Component
from tl_nla.errors import InputError
from tl_nla.model.blocks import BlockForm
from tl_nla.model.facts import branches_of
from tl_nla.model.heads import OutProjection
from tl_nla.model.reading import head_sum
from tl_nla.model.rounding import compare, step_of

ROW_BUDGET = 2**24  # floating-point numbers of the largest intermediate tensor when components run side by side


Edit = tuple[str, Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class Start:
    """Where a component's replay branches off the clean run.

    Attributes:
        layer: the first block that must run again.
        residual: the residual stream that enters it.
        edits: for a part of that block, what to change there: names of hook points, and functions on the tensor of this
            component's rows.
    """

    layer: int
    residual: Float[Tensor, "batch pos d_model"]
    edits: tuple[Edit, ...] = ()

    def only_at(self, clean: CleanRun, position: int) -> "Start":
        """The same at one position, the others as they were."""
        residual = clean.inputs[self.layer].clone()
        residual[:, position] = self.residual[:, position]
        return Start(self.layer, residual, tuple((name, _at(position, edit)) for name, edit in self.edits))


def _at(position: int, edit: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def function(value: Tensor) -> Tensor:
        changed = value.clone()
        changed[:, position] = edit(value)[:, position]
        return changed

    return function


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
    before = clean.kept.get(f"blocks.{layer}.hook_resid_pre", clean.inputs[layer])
    new = torch.zeros((), dtype=before.dtype, device=before.device) if replacement is None else replacement.to(before)
    if kind in ("block", "span"):
        return Start(component.last + 1, (before + new).expand_as(before).to(clean.inputs[component.last + 1]))
    if kind == "head":
        return Start(layer, clean.inputs[layer], (_head_edit(model, clean, component, replacement),))
    form, branches = branches_of(model, layer, kind)
    # Mostly nothing reads what the MLP writes but the sum at the block's end.
    if kind == "mlp" and "ple" not in form.kinds and _adds_up(clean, layer, form, before):
        after, write = clean.inputs[layer + 1], form.write(kind, clean.kept)
        return Start(layer + 1, (after.float() - write.to(after.device).float() + new.float()).to(after))
    shares = [new.float() / (branch.factor * form.carry * len(branches)) for branch in branches]
    edits = [(branch.point, _put(share)) for branch, share in zip(branches, shares, strict=True)]
    return Start(layer, clean.inputs[layer], tuple(edits))


def _adds_up(clean: CleanRun, layer: int, form: BlockForm, before: Tensor) -> bool:
    """Whether the block gave the sum of its parts in this run, hooks of the user included."""
    terms = [form.carry * before.float(), *(form.write(kind, clean.kept).to(before.device) for kind in form.kinds)]
    after = clean.inputs[layer + 1].to(before.device)
    return compare(after, terms, step_of(after, before)).exact


def _put(new: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda write: new.to(write).expand_as(write).clone()


def _head_edit(model: Any, clean: CleanRun, component: Component, replacement: Tensor | None) -> Edit:
    layer, head, part = component.layer, int(component.head or 0), component.part
    projection = clean.projection(model, layer, part)
    if replacement is None:
        return projection.point, _zero_head(projection, head)
    form, branches = branches_of(model, layer, part)
    flat = {name: clean.kept[name].flatten(0, 1) for name in (projection.point, *form.points(part))}
    found = head_sum(model, layer, part, flat)
    if found.scale.ndim:
        raise InputError(
            f"{component}: this family normalises the sum of its heads, so another write cannot be put in one head's "
            "place. Leave the head out, or replace the whole attention write"
        )
    factor = branches[0].factor * form.carry
    old = found.writes([head])[:, 0].reshape(clean.inputs[layer].shape)
    return branches[0].point, lambda write: (write.float() + (replacement.to(old) - old) / factor).to(write)


def _zero_head(projection: OutProjection, head: int) -> Callable[[Tensor], Tensor]:
    width = projection.width // projection.heads

    def edit(z: Tensor) -> Tensor:
        flat = z.reshape(*z.shape[:2], -1).clone()
        flat[..., head * width : (head + 1) * width] = 0
        return flat.reshape(z.shape)

    return edit


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
            entering = clean.inputs[layer]
            stacked = torch.cat([stacked.to(entering), *(starts[i].residual.to(entering) for i in born)])
            active += born
            if active:
                edits = {row: starts[i].edits for row, i in enumerate(active) if i in born and starts[i].edits}
                stacked = _run_block(clean, layer, stacked, len(active), edits, everywhere)
        for row, i in enumerate(active):
            final[i] = stacked[row * clean.batch : (row + 1) * clean.batch]
    ended = [starts[i].residual if done is None else done for i, done in enumerate(final)]
    return torch.stack([state.to(clean.inputs[-1]) for state in ended])


def _run_block(
    clean: CleanRun,
    layer: int,
    stacked: Tensor,
    copies: int,
    edits: Mapping[int, tuple[Edit, ...]],
    everywhere: bool,
) -> Tensor:
    pairs = [] if everywhere else _own_past(clean, layer, copies)
    for name in {name for row in edits.values() for name, _ in row}:
        rows = {row: function for row, own in edits.items() for point, function in own if point == name}
        pairs.append((_point(clean, name), edit_rows(rows, clean.batch)))
    with hooked(pairs):
        return clean.calls[layer](stacked, copies, clean.batch)


def _point(clean: CleanRun, name: str) -> Any:
    point = clean.points.get(name)
    if point is None:
        raise InputError(f"the model has no hook point {name}, which this computation writes to")
    return point


def edit_rows(rows: Mapping[int, Callable[[Tensor], Tensor]], batch: int) -> Callable[..., Tensor]:
    """A hook that changes some copies of the batch, each by a function of its own.

    Args:
        rows: functions by the copy's number.
        batch: rows of one copy.
    """

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
    return [(_point(clean, f"blocks.{layer}.{name}"), function) for name, function in named.items()]


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
    length = max(1, length)
    widest = max(model.cfg.n_heads * length, getattr(model.cfg, "d_mlp", None) or 4 * model.cfg.d_model)
    size = chunk or max(1, ROW_BUDGET // (batch * length * widest))
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
