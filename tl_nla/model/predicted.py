"""Token ids that a model can predict: what may be the target of an attribution."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.errors import InputError


def predicted_ids(model: Any, ids: Any, what: str = "target") -> Int[Tensor, "*shape"]:
    """Ids as a tensor of whole numbers.

    Args:
        model: a TransformerLens model. Some models read more tokens than they predict.
        ids: one id, a list of ids, or a tensor of any shape.
        what: how the message names them.

    Raises:
        InputError: for what is no whole number (yes and no included), or no token that the model predicts.
    """
    vocab = int(model.W_U.shape[1])
    allowed = f"allowed: token ids from 0 to {vocab - 1}"
    if isinstance(ids, bool) or (isinstance(ids, list | tuple) and any(isinstance(value, bool) for value in ids)):
        raise InputError(f"{what} is {ids!r}; {allowed}")
    try:
        values = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{what} is {str(ids)[:60]}; {allowed}") from None
    if values.dtype == torch.bool or values.is_floating_point() or values.is_complex():
        raise InputError(f"{what} is {_shown(ids, values)}; {allowed}")
    if not values.numel():
        raise InputError(f"{what} holds no token id; {allowed}")
    values = values.long()
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= vocab:
        raise InputError(f"{what} is {low if low < 0 else high}; {allowed}")
    return values


def _shown(ids: Any, values: Tensor) -> str:
    return f"a tensor of {values.dtype}" if isinstance(ids, Tensor) else str(ids)[:60]
