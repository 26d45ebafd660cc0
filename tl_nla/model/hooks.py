"""Putting functions on hook points and taking exactly these off again, on every model class and exit path."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from tl_nla.errors import unknown

HookFunction = Callable[..., Tensor | None]
HookPair = tuple[str, HookFunction]
_MODULE_INPUT = re.compile(r"^blocks\.(\d+)\.(\w+)\.(\w+)\.hook_in$")


def is_bridge(model: Any) -> bool:
    """Whether ``model`` is a ``TransformerBridge`` (by shape, so that no TransformerLens line is needed)."""
    return hasattr(model, "original_model") and hasattr(model, "adapter")


class ModulePoint:
    """The input of a plain module inside a TransformerLens component, with the interface of a hook point."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name
        self.fwd_hooks: list[Any] = []

    def add_hook(self, function: HookFunction) -> None:
        """Call ``function(input, hook=self)`` whenever the module runs; what it returns replaces the input."""

        def before(module: nn.Module, args: tuple) -> tuple | None:
            new = function(args[0], hook=self)
            return None if new is None else (new, *args[1:])

        self.fwd_hooks.append(SimpleNamespace(hook=self.module.register_forward_pre_hook(before)))


def module_point(model: Any, name: str) -> ModulePoint | None:
    """The point ``blocks.i.component.layer.hook_in`` of a layer that TransformerLens does not wrap; else ``None``."""
    match = _MODULE_INPUT.match(name)
    if match is None or int(match[1]) >= len(model.blocks):
        return None
    component = getattr(model.blocks[int(match[1])], match[2], None)
    module = getattr(getattr(component, "original_component", None), match[3], None)
    return ModulePoint(module, name) if isinstance(module, nn.Module) else None


@contextmanager
def tap(model: Any, pairs: Sequence[HookPair], points: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """Attach ``(hook name, function)`` pairs for the duration of a block.

    Functions are removed by handle, so the user's own hooks keep their places and their order. Contexts may be left in
    any order, and a ``reset_hooks`` inside is survived.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        pairs: names as in ``model.hook_dict`` with functions ``(activation, hook) -> activation or None``.
        points: ``model.hook_dict``, where it was built already: bridges take milliseconds to build it.

    Raises:
        InputError: before anything is attached, when a name is unknown.
    """
    points = model.hook_dict if points is None else points
    places: dict[str, Any] = {}
    for name, _ in pairs:
        places[name] = points[name] if name in points else module_point(model, name)
        if places[name] is None:
            raise unknown("hook point", name, points)
    attached: list[tuple[Any, Any]] = []
    try:
        for name, function in pairs:
            point = places[name]
            known = {id(handle) for handle in point.fwd_hooks}
            point.add_hook(function)
            attached += [(point, handle) for handle in point.fwd_hooks if id(handle) not in known]
        yield model
    finally:
        for point, handle in attached:
            handle.hook.remove()
            point.fwd_hooks = [other for other in point.fwd_hooks if other is not handle]
