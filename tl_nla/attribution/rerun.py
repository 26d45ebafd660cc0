"""Leaving components out in ordinary runs of the whole model, many copies of the batch side by side.

Slower than running only the later blocks again, and right on every architecture. Nothing has to be known of how blocks
are called or of what they share with each other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tl_nla.attribution.clean_run import CleanRun, hooked
from tl_nla.attribution.replay import Start, edit_rows
from tl_nla.errors import InputError


def rerun(
    model: Any, clean: CleanRun, starts: Sequence[Start], position: int | None = None
) -> Float[Tensor, "component batch pos d_model"]:
    """Run the whole model with each start's change.

    Args:
        model: the TransformerLens model.
        clean: its clean run.
        starts: one for each component.
        position: change this column only; all of them when ``None``.

    Returns:
        The last residual stream of each component.

    Raises:
        InputError: when a place that has to be written to is no hook point of the model.
    """
    by_point: dict[str, dict[int, Callable[[Tensor], Tensor]]] = {}
    for row, start in enumerate(starts):
        edits = start.edits or ((f"blocks.{start.layer - 1}.hook_resid_post", _becomes(start.residual, position)),)
        for name, edit in edits:
            by_point.setdefault(name, {})[row] = edit
    missing = [name for name in by_point if name not in clean.points]
    if missing:
        raise InputError(f"the model has no hook point {missing[0]}, which leaving components out writes to")
    copies, last = len(starts), []

    def keep(block: nn.Module, args: tuple, output: Any) -> None:
        last.append((output[0] if isinstance(output, tuple | list) else output).detach())

    watcher = model.blocks[len(clean.calls) - 1].register_forward_hook(keep)
    arguments = {} if clean.mask is None else {"attention_mask": clean.mask.repeat(copies, 1)}
    try:
        seen: set[str] = set()
        pairs = [
            (clean.points[name], _noted(name, seen, edit_rows(rows, clean.batch))) for name, rows in by_point.items()
        ]
        with torch.no_grad(), hooked(pairs):
            model(clean.tokens.repeat(copies, 1), **arguments)
    finally:
        watcher.remove()
    if silent := [name for name in by_point if name not in seen]:
        raise InputError(f"{silent[0]} never fires on this model, so nothing can be left out there")
    return last[-1].unflatten(0, (copies, clean.batch))


def _noted(name: str, seen: set[str], edit: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def function(value: Tensor, hook: Any) -> Tensor:
        seen.add(name)
        return edit(value, hook)

    return function


def _becomes(residual: Tensor, position: int | None) -> Callable[[Tensor], Tensor]:
    def edit(value: Tensor) -> Tensor:
        if position is None:
            return residual.to(value)
        changed = value.clone()
        changed[:, position] = residual[:, position].to(value)
        return changed

    return edit
