"""Forward passes that keep and compute no more than what is looked at.

Logits are the largest tensor of a pass: 1,024 tokens over a vocabulary of 256,000 take 1 GB in float32. What enters the
unembedding is cut down to the wanted positions. Everything behind it (multipliers, soft caps) stays the model's own.
TransformerLens also leaves the attention pattern of some families on every layer; it is let go behind each attention.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tl_nla.model.facts import facts_of
from tl_nla.model.hooks import tap
from tl_nla.model.probe import lock_of

LOGIT_BUDGET = 2**25
"""Logits held at once; 128 MiB in float32."""


@torch.no_grad()
def chosen_logits(
    model: Any, tokens: Int[Tensor, "batch pos"], chosen: Bool[Tensor, "batch pos"], **arguments: Any
) -> Float[Tensor, "n vocab"]:
    """Logits of some positions, row by row, without those of the others.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokens: token ids.
        chosen: which positions; at least one.
        arguments: of the model's call, such as ``attention_mask``.

    Example:
        >>> last = torch.zeros_like(tokens, dtype=torch.bool)
        >>> last[:, -1] = True
        >>> logits = chosen_logits(model, tokens, last)
    """
    count = int(chosen.sum())
    with narrowed(model, chosen) as narrow:
        logits = model(tokens, **arguments)
    return logits[0, :count] if narrow else logits[chosen.to(logits.device)]


@torch.no_grad()
def logit_pieces(
    model: Any, tokens: Int[Tensor, "batch pos"], chosen: Bool[Tensor, "batch pos"], budget: int = LOGIT_BUDGET
) -> Iterator[Float[Tensor, "n vocab"]]:
    """The same in pieces of at most ``budget`` numbers, so that memory does not grow with the positions.

    One pass serves all pieces where the read-out is known (:mod:`tl_nla.model.readout`); otherwise each takes one.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokens: token ids.
        chosen: which positions; at least one.
        budget: logits held at once.

    Yields:
        Logits of the chosen positions, in their order.
    """
    step = max(1, budget // int(model.cfg.d_vocab))
    places = torch.nonzero(chosen)
    if len(places) <= step:
        yield chosen_logits(model, tokens, chosen)
        return
    readout = facts_of(model).readout
    if readout.fit.exact:
        states: list[Tensor] = []
        keep = lambda value, hook: states.append(value[chosen.to(value.device)])  # noqa: E731
        with tap(model, [(f"blocks.{int(model.cfg.n_layers) - 1}.hook_resid_post", keep)]), unread_logits(model):
            model(tokens)
        for first in range(0, len(places), step):
            yield readout.logits(states[-1][None, first : first + step])[0]
        return
    for first in range(0, len(places), step):
        part = torch.zeros_like(chosen)
        part[tuple(places[first : first + step].T)] = True
        yield chosen_logits(model, tokens, part)


@contextmanager
def unread_logits(model: Any) -> Iterator[None]:
    """Passes whose logits nobody reads: a single position is unembedded, so that they have the shape ``[1, 1, vocab]``.

    Where hooks of the user's watch the unembedding, it sees every position as ever.
    """
    with narrowed(model, None):
        yield


@contextmanager
def narrowed(model: Any, chosen: Tensor | None) -> Iterator[bool]:
    """Cut what enters the unembedding to some positions, row by row in one row; whether that was done.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        chosen: which positions ``[batch, pos]``; the very first one when ``None``.
    """
    unembed, owner = getattr(model, "unembed", None), threading.get_ident()

    def cut(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if threading.get_ident() != owner:  # a pass of another thread, which wants its logits
            return args
        states = args[0]
        return (states[:1, :1] if chosen is None else states[chosen.to(states.device)][None], *args[1:])

    def let_go(attention: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if threading.get_ident() == owner and isinstance(getattr(attention, "_pattern", None), Tensor):
            setattr(attention, "_pattern", None)  # noqa: B010

    with lock_of(model), ExitStack() as hooks:
        for block in model.blocks:
            if isinstance(attention := getattr(block, "attn", None), nn.Module):
                hooks.callback(attention.register_forward_hook(let_go).remove)
        if isinstance(unembed, nn.Module) and not _watched(unembed):
            hooks.callback(unembed.register_forward_pre_hook(cut).remove)
            yield True
        else:
            yield False


def _watched(unembed: nn.Module) -> bool:
    """Whether anything looks at what enters or leaves the unembedding."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in unembed.modules())
