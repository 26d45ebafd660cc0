"""A causal language model that reads vectors in slots of a prompt and answers; verbalizers and oracles share it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.families import decoder_layers
from tl_nla.nla.generation import Generators, Responses, SamplingConfig, respond
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


def end_ids(model: Any, *known: int | None) -> tuple[int, ...]:
    """Ids that end an answer: the ones that are known and those of the model's own generation settings."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = [*known, *(named if isinstance(named, list) else [named])]
    return tuple(sorted({int(one) for one in ids if one is not None}))


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
    """Change a block's output at the slots while the pass over them runs; nothing where embeddings are replaced.

    Args:
        model: a causal language model; its hook comes off on every path.
        injection: how vectors enter.
        vectors: of the injection, one a slot.
        places: positions of the slots among those that the pass runs.
    """
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


def read_and_answer(
    model: Any, injection: Injection, prompt: tuple[Sequence[int], list[int]],
    vectors: Float[Tensor, "n slots d_model"], sampling: SamplingConfig, pad_id: int,
    chance: tuple[Generators, int] = (None, 1),
) -> Responses:  # fmt: skip
    """Answers to one prompt with the vectors of each row in its slots.

    Args:
        model: a causal language model in evaluation mode.
        injection: how vectors enter.
        prompt: ids and positions of the slots.
        vectors: of the injection, one a slot.
        sampling: how tokens are chosen.
        pad_id: fills the rows that ended early.
        chance: generators and answers a row.
    """
    ids, places = prompt
    embeddings, first = slot_embeddings(model, injection, ids, places, vectors), places[0]

    def step(part: Tensor, cache: Any) -> Tensor:
        output = model(inputs_embeds=part, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1]

    return respond(
        step, model.get_input_embeddings(), embeddings[:1, :first], embeddings[:, first:], sampling, pad_id,
        chance[0], on_own=lambda: changing(model, injection, vectors, [place - first for place in places]),
        samples=chance[1],
    )  # fmt: skip
