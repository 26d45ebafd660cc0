"""One short run of a model that keeps every tensor of the residual stream's width, the user's own hooks left aside."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.hooks import tap

LENGTH = 8
_locks: "weakref.WeakKeyDictionary[Any, threading.RLock]" = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def lock_of(model: Any) -> threading.RLock:
    """The lock of a model: hooks belong to the model and not to a thread, so runs that hook it take turns."""
    with _guard:
        return _locks.setdefault(model, threading.RLock())


def probe_tokens(model: Any) -> Int[Tensor, "1 pos"]:
    """A few different token ids from all over the vocabulary."""
    length = max(1, min(LENGTH, int(getattr(model.cfg, "n_ctx", LENGTH) or LENGTH)))
    vocab = int(model.cfg.d_vocab)
    ids = torch.linspace(0.1 * vocab, 0.9 * vocab, length).long().clamp(0, vocab - 1)
    return ids[None].to(device_of(model))


def device_of(model: Any) -> torch.device:
    """Where a model takes its tokens: the device of its first parameter."""
    return next(iter(model.parameters()), torch.zeros(())).device


@contextmanager
def muted(model: Any) -> Iterator[None]:
    """Run the model without the hooks that users put on its hook points; they are all there again afterwards."""
    aside: list[tuple[Any, Any]] = []
    try:
        for point in {id(point): point for point in model.hook_dict.values()}.values():
            if point._forward_hooks:
                aside.append((point, point._forward_hooks))
                point._forward_hooks = OrderedDict()
        yield
    finally:
        for point, hooks in aside:
            point._forward_hooks = hooks


@torch.no_grad()
def probe(model: Any) -> tuple[dict[str, Float[Tensor, "1 pos d"]], Tensor]:
    """Run a few tokens and keep what passes each hook point of every block, where it has the stream's width.

    Returns:
        Tensors by hook name (without the names that stand for the same point), and the logits.

    Raises:
        InputError: when the model cannot be run on token ids.
    """
    kept: dict[str, Tensor] = {}
    tokens = probe_tokens(model)
    width = (*tokens.shape, int(model.cfg.d_model))
    points = model.hook_dict
    # Switched-off points and those of single numbers are left alone: a hook on the former is an error.
    names = [name for name in points if _wanted(name)]

    def keep(name: str) -> Callable[..., None]:
        def function(value: Any, hook: Any) -> None:
            if isinstance(value, Tensor) and value.is_floating_point() and value.shape == width:
                kept[name] = value.detach().clone()

        return function

    pairs = [(name, keep(name)) for name in names]
    with lock_of(model), muted(model), tap(model, pairs, points), _blocks_watched(model, kept, width):
        try:
            output = model(tokens)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError) as error:
            raise InputError(
                f"the model cannot be run on token ids of shape {tuple(tokens.shape)}: "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
            ) from error
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        raise InputError(f"{type(model).__name__} gives no logits [batch, pos, vocab]: it is no causal language model")
    return kept, logits


@contextmanager
def _blocks_watched(model: Any, kept: dict[str, Tensor], width: tuple[int, ...]) -> Iterator[None]:
    """Keep what enters and leaves each block where its own hook points do not show it."""
    handles = []

    def store(name: str, value: Any) -> None:
        value = value[0] if isinstance(value, tuple | list) and value else value
        if name not in kept and isinstance(value, Tensor) and value.shape == width:
            kept[name] = value.detach().clone()

    def watcher(layer: int) -> Callable[..., None]:
        def after(block: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
            store(f"blocks.{layer}.hook_resid_pre", args or list(kwargs.values())[:1])
            store(f"blocks.{layer}.hook_resid_post", output)

        return after

    try:
        for layer, block in enumerate(model.blocks):
            handles.append(block.register_forward_hook(watcher(layer), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


_GATED = ("hook_result", "hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in")


def _wanted(name: str) -> bool:
    return name.startswith(("blocks.", "hook_embed", "ln_final")) and not name.endswith(_GATED)
