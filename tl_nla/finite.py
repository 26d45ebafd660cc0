"""Weights that are not finite are never written over ones that are."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tl_nla.errors import InputError


def check_finite(tensors: Mapping[str, Tensor], what: str, dtype: torch.dtype | None = None) -> None:
    """Refuse NaN and infinite values before a file is touched.

    Args:
        tensors: what would be written, by name; integers are passed over.
        what: they belong to, such as ``"the verbalizer"``.
        dtype: they would be written in; as they are when ``None``.

    Raises:
        InputError: naming the first tensor at fault.
    """
    for name, value in tensors.items():
        if not value.is_floating_point():
            continue
        if not bool(torch.isfinite(value).all()):
            raise InputError(
                f"{what} holds NaN or infinite values in {name!r} {tuple(value.shape)}; nothing was saved. "
                "Lower the learning rate, or go back to an earlier checkpoint"
            )
        if dtype is not None and not bool(torch.isfinite(value.detach().to(dtype)).all()):
            raise InputError(
                f"{what} holds values in {name!r} that are too large for {dtype}; nothing was saved. "
                "Save in torch.bfloat16 or torch.float32"
            )
