"""Many changes of one prompt's last state at once: the prompt runs once, each change goes on from its keys and values.

What :class:`tl_nla.adapters.VectorAdapter` does to one prompt at a time, for sweeps; a test holds the two together.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from tl_nla.errors import InputError
from tl_nla.model.hooks import tap


@dataclass(frozen=True)
class Continuations:
    """What the model says after each change.

    Attributes:
        first: log-probabilities of the next token, nats.
        tokens: generated greedily.
        log_perplexity: nats a token under the unchanged model, up to the end token.
    """

    first: Float[Tensor, "changes vocab"]
    tokens: Int[Tensor, "changes new"]
    log_perplexity: Float[Tensor, " changes"]


@torch.no_grad()
def continue_changed(
    model: Any, ids: list[int], point: str, shifts: Float[Tensor, "changes *places d_model"], new_tokens: int, end: int
) -> Continuations:
    """Change states of a prompt's last tokens and generate greedily, unchanged from there on.

    Args:
        model: a ``TransformerBridge``.
        ids: the prompt.
        point: hook point of the state.
        shifts: what is added to the last token's state, a row each; or to those of the last ``places`` tokens.
        new_tokens: how many tokens are generated.
        end: id of the end token; what stands behind it is the end token again.

    Raises:
        InputError: when no token stands in front of those that are changed.
    """
    shifts = shifts[:, None] if shifts.ndim == 2 else shifts
    rows, places = shifts.shape[:2]
    if len(ids) <= places:
        raise InputError(f"{places} of {len(ids)} tokens are changed; changes go on from the keys and values of others")
    prefix = DynamicCache(config=model.original_model.config)
    model(torch.tensor([ids[:-places]]), past_key_values=prefix, use_cache=True)
    last = torch.tensor([ids[-places:]]).expand(rows, -1)
    clean, changed = copy.deepcopy(prefix), prefix
    for cache in (clean, changed):
        cache.batch_repeat_interleave(rows)
    with tap(model, [(point, lambda activation, hook: activation + shifts.to(activation))]):
        logits = model(last, past_key_values=changed, use_cache=True)[:, -1]
    first = logits.float().log_softmax(-1)
    tokens = [logits.argmax(-1)]
    for _ in range(new_tokens - 1):
        logits = model(tokens[-1][:, None], past_key_values=changed, use_cache=True)[:, -1]
        tokens.append(torch.where(tokens[-1] == end, end, logits.argmax(-1)))
    said = torch.stack(tokens, 1)
    logits = model(torch.cat([last, said[:, :-1]], 1), past_key_values=clean, use_cache=True)[:, places - 1 :]
    chances = logits.float().log_softmax(-1)
    nats = -chances.gather(2, said[..., None])[..., 0]
    counted = torch.cat([torch.ones(rows, 1, dtype=torch.bool), said[:, :-1] != end], 1)
    return Continuations(first, said, (nats * counted).sum(1) / counted.sum(1))
