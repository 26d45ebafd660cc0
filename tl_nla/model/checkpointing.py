"""Gradient checkpointing: activations inside blocks are computed again on the way back instead of being kept."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from tl_nla.model.families import decoder_layers

_FORWARD = "forward"


@contextmanager
def checkpointed(models: Iterable[Any]) -> Iterator[None]:
    """Keep only the inputs of the blocks of some models for the backward pass of what runs inside.

    ``gradient_checkpointing_enable`` of transformers has no effect in evaluation mode. Trainings by reward compute both
    parts in it, because dropout would give another policy than that of sampling. So the blocks are wrapped here, with
    torch's own non-reentrant checkpoint (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost). It needs no
    input with a gradient, so that frozen embeddings under an adapter work. Hooks on a block stay outside of it.

    Args:
        models: causal language models or their backbones, also ones wrapped by PEFT. Their blocks are as they were
            when the context ends; the backward pass may come later.

    Raises:
        InputError: for a model whose blocks are not found.

    Example:
        >>> with checkpointed([nla.verbalizer.model]):
        ...     logits = nla.verbalizer(acts, ids)
        >>> logits.sum().backward()
    """
    blocks = {id(block): block for model in models for block in decoder_layers(model)}.values()
    before = [(block, vars(block).get(_FORWARD)) for block in blocks]
    try:
        for block in blocks:
            setattr(block, _FORWARD, _recomputing(block))
        yield
    finally:
        for block, own in before:
            vars(block).pop(_FORWARD, None)
            if own is not None:
                setattr(block, _FORWARD, own)


def _recomputing(block: nn.Module) -> Callable[..., Any]:
    forward = block.forward

    def run(*args: Any, **settings: Any) -> Any:
        # Without dropout nothing is drawn, so no state of a generator has to be kept.
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=block.training, **settings)

    return run
