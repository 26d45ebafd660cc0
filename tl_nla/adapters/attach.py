"""Putting adapters on a model for the duration of a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tl_nla.adapters.base import Adapter
from tl_nla.errors import InputError
from tl_nla.model.hooks import tap


@contextmanager
def attach(model: Any, *adapters: Adapter) -> Iterator[Any]:
    """Put adapters on a model; they come off by handle, whatever happens inside.

    ::

        with attach(model, adapter):
            model.generate(tokens)
        rows = adapter.results()

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``; the block's value.
        adapters: any number; their functions run in this order, behind the hooks that are already there.

    Hooks are the model's, not the thread's: run one model in one thread at a time while adapters are attached.

    Raises:
        InputError: before anything is attached, when no adapter was given, something is none, or one does not fit the
            model.
    """
    if not adapters:
        raise InputError("no adapter was given; attach(model, adapter) needs at least one")
    for adapter in adapters:
        if not isinstance(adapter, Adapter):
            raise InputError(
                f"{type(adapter).__name__} is no adapter; attach(model, adapter) takes the model, then objects such as "
                "VerbalizerAdapter(nla, site)"
            )
    pairs = [pair for adapter in adapters for pair in adapter.hooks(model)]
    with tap(model, pairs):
        yield model
