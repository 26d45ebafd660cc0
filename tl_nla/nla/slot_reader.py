"""How vectors enter a causal language model at the slots of a prompt: as embeddings, or inside a block."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.families import decoder_layers
from tl_nla.nla.injection import Injection, change_stream


def check_block(model: Any, injection: Injection) -> None:
    """Refuse an injection into a block that the model does not have.

    Raises:
        InputError: naming both.
    """
    count, block = len(decoder_layers(model)), injection.config.block
    if not injection.replaces_embedding and block >= count:
        raise InputError(
            f"{injection.config.kind} injection changes the output of block {block}; this model has blocks 0 to "
            f"{count - 1}"
        )


def slot_embeddings(
    model: Any, injection: Injection, ids: Sequence[int], places: list[int], vectors: Float[Tensor, "n slots d_model"]
) -> Float[Tensor, "n pos d_model"]:
    """Input embeddings of a prompt with the vectors in their slots (unchanged where a block's output is changed).

    The embedding module's own output is replaced, so that Gemma's embedding scale is neither lost nor doubled.

    Args:
        model: a causal language model.
        injection: how vectors enter.
        ids: of the prompt.
        places: positions of the slots.
        vectors: of the injection, one a slot.
    """
    embed = model.get_input_embeddings()
    device = embed.weight.device
    embeddings = embed(torch.tensor([list(ids)], device=device)).expand(len(vectors), -1, -1)
    if not injection.replaces_embedding:
        return embeddings
    return embeddings.index_copy(1, torch.tensor(places, device=device), vectors.to(embeddings))


@contextmanager
def changing(model: Any, injection: Injection, vectors: Tensor, places: list[int]) -> Iterator[None]:
    """Change a block's output at the slots while the pass over them runs; nothing where embeddings are replaced."""
    if injection.replaces_embedding:
        yield
        return

    def change(_module: nn.Module, _args: Any, output: Any) -> Any:
        stream = output[0] if isinstance(output, tuple) else output
        changed = change_stream(stream, vectors, places, injection.config)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = decoder_layers(model)[injection.config.block].register_forward_hook(change)
    try:
        yield
    finally:
        handle.remove()
