"""Putting functions on hook points and taking exactly these off again, on every model class and exit path."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from tl_nla.errors import unknown

HookFunction = Callable[..., Tensor | None]
HookPair = tuple[str, HookFunction]


def is_bridge(model: Any) -> bool:
    """Whether ``model`` is a ``TransformerBridge`` (by shape, so that no TransformerLens line is needed)."""
    return hasattr(model, "original_model") and hasattr(model, "adapter")


def hook_point(model: Any, name: str) -> Any:
    """The hook point called ``name``.

    Raises:
        InputError: when the model has none; lists the nearest names. TransformerLens itself passes over unknown
            names silently on the early bridge.
    """
    points = model.hook_dict
    if name not in points:
        raise unknown("hook point", name, points)
    return points[name]


@contextmanager
def tap(model: Any, pairs: Sequence[HookPair], points: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """Attach ``(hook name, function)`` pairs for the duration of a block.

    Functions are removed by handle: the user's own hooks keep their places and their order, contexts may be left in
    any order, and a ``reset_hooks`` inside is survived.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        pairs: names as in ``model.hook_dict`` with functions ``(activation, hook) -> activation or None``.
        points: ``model.hook_dict``, where it is at hand: bridges take milliseconds to build it.

    Raises:
        InputError: before anything is attached, when a name is unknown.
    """
    points = model.hook_dict if points is None else points
    for name, _ in pairs:
        if name not in points:
            raise unknown("hook point", name, points)
    attached: list[tuple[Any, Any]] = []
    try:
        for name, function in pairs:
            point = points[name]
            known = {id(handle) for handle in point.fwd_hooks}
            point.add_hook(function)
            attached += [(point, handle) for handle in point.fwd_hooks if id(handle) not in known]
        yield model
    finally:
        for point, handle in attached:
            handle.hook.remove()
            point.fwd_hooks = [other for other in point.fwd_hooks if other is not handle]
