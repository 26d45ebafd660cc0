"""What trainings compute with: a device, and faster matrix products than float32's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tl_nla.errors import unknown

PRECISIONS = ("highest", "high", "medium")
"""As of ``torch.set_float32_matmul_precision``: float32, TF32 or two bfloat16 products, bfloat16 products."""


def known_precision(name: str) -> str:
    """The name itself.

    Raises:
        InputError: when it is none of ``PRECISIONS``.
    """
    if name not in PRECISIONS:
        raise unknown("precision of matrix products", name, PRECISIONS)
    return name


@contextmanager
def matmul_precision(module: nn.Module, precision: str) -> Iterator[None]:
    """Compute float32 matrix products at a lower precision inside, as before afterwards.

    Attention is spelled out meanwhile. On CPUs the backward pass of torch's fused attention gets about ten times slower
    at ``"medium"``: its many small products are converted one by one.

    Args:
        module: what is trained; the transformers models in it are set back afterwards.
        precision: one of ``PRECISIONS``; ``"highest"`` leaves the attention as it is.

    Raises:
        InputError: for any other precision.
    """
    known_precision(precision)
    known = torch.get_float32_matmul_precision()
    lower = precision != "highest"
    models: list[Any] = [part for part in module.modules() if lower and hasattr(part, "set_attn_implementation")]
    before = [part.config._attn_implementation for part in models]
    torch.set_float32_matmul_precision(precision)
    try:
        for part in models:
            part.set_attn_implementation("eager")
        yield
    finally:
        torch.set_float32_matmul_precision(known)
        for part, kind in zip(models, before, strict=True):
            part.set_attn_implementation(kind)
