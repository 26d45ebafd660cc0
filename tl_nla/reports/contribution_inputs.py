"""What a contribution report is asked for: a prompt, and the token to explain at each of its columns."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.predicted import predicted_ids
from tl_nla.model.reading import check_tokens
from tl_nla.model.text import TextEncoder, checked


def prompt_ids(model: Any, tokens: Any, tokenizer: Any, prepend_bos: bool | None = None) -> Int[Tensor, "1 pos"]:
    """The ids of a prompt.

    Args:
        model: the TransformerLens model.
        tokens: text, or ids ``[pos]`` or ``[1, pos]``.
        tokenizer: needed for text.
        prepend_bos: see :class:`tl_nla.model.text.TextEncoder`.

    Raises:
        InputError: for an empty prompt, several ones, or ids that the model does not have.
    """
    if isinstance(tokens, str):
        if tokenizer is None:
            raise InputError("a prompt given as text needs a tokenizer, which this model does not carry")
        found = TextEncoder(tokenizer, model, prepend_bos)(tokens)
        if len(found) == found.added:
            raise InputError("the prompt is empty; give at least one word")
        ids = torch.tensor([found.ids], device=model.W_U.device)
    else:
        ids = tokens[None] if isinstance(tokens, Tensor) and tokens.ndim == 1 else tokens
    if not isinstance(ids, Tensor) or ids.ndim != 2 or len(ids) != 1 or ids.is_floating_point() or not ids.numel():
        shape = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise InputError(f"a report is of one prompt: give text or integer ids [pos] or [1, pos]; found {shape}")
    check_tokens(model, ids)
    return ids


def target_ids(model: Any, target: Any, ids: Int[Tensor, "1 pos"], tokenizer: Any, role: str) -> Int[Tensor, "1 pos"]:
    """The token to explain at every column.

    Args:
        model: the TransformerLens model.
        target: its text, its id, or one id a column.
        ids: the prompt.
        tokenizer: needed for text.
        role: how messages name it.

    Raises:
        InputError: for text that is not one token, or for what is no token id that the model predicts. Also for ids of
            another number than the columns.
    """
    value = predicted_ids(model, _of_text(target, tokenizer, role) if isinstance(target, str) else target, role)
    if value.ndim > 1 or (value.ndim == 1 and len(value) != ids.shape[1]):
        raise InputError(
            f"{role} must be one token or one for each of the {ids.shape[1]} columns; found shape {tuple(value.shape)}"
        )
    return value.to(ids.device).expand_as(ids)


def _of_text(text: str, tokenizer: Any, role: str) -> int:
    if tokenizer is None:
        raise InputError(f"{role} {text!r} is text, which needs a tokenizer; give its id")
    found = tokenizer.encode(checked(text, role), add_special_tokens=False)
    if len(found) != 1:
        shown = [tokenizer.decode([i]) for i in found]
        raise InputError(f"{role} {text!r} must be one token, but is {shown}; words mostly need a leading space")
    if found[0] == tokenizer.unk_token_id and str(tokenizer.unk_token) not in text:
        raise InputError(f"{role} {text!r} is no token of the vocabulary; give a token's text or its id")
    return int(found[0])
