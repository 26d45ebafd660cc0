"""What trainings compute with: a device, and faster matrix products than float32's own."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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
def spelled_out_attention(module: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Compute attention by plain matrix products inside, as before afterwards.

    On CPUs the backward pass of torch's fused attention is slow in bfloat16 and at lower matrix precision. Its many
    small products are converted one by one. A training step of 48 short rows of SmolLM2 took 5.3 s of processor
    time with it and 3.2 s without.

    Args:
        module: what is trained; the transformers models in it are set back afterwards.
        wanted: ``False`` leaves the attention as it is.
    """
    models: list[Any] = [part for part in module.modules() if wanted and hasattr(part, "set_attn_implementation")]
    before = [part.config._attn_implementation for part in models]
    try:
        for part in models:
            part.set_attn_implementation("eager")
        yield
    finally:
        for part, kind in zip(models, before, strict=True):
            part.set_attn_implementation(kind)


def quick_attention(module: Any) -> AbstractContextManager[None]:
    """The faster attention of a training step: spelled out on CPUs where the Trainer computes in bfloat16."""
    lower = str(module.trainer.precision).startswith("bf16")
    return spelled_out_attention(module, lower and module.device.type == "cpu")


@contextmanager
def matmul_precision(module: nn.Module, precision: str) -> Iterator[None]:
    """Compute float32 matrix products at a lower precision inside, as before afterwards.

    Attention is spelled out meanwhile (:func:`spelled_out_attention`).

    Args:
        module: what is trained.
        precision: one of ``PRECISIONS``; ``"highest"`` leaves the attention as it is.

    Raises:
        InputError: for any other precision.
    """
    known_precision(precision)
    known = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with spelled_out_attention(module, precision != "highest"):
            yield
    finally:
        torch.set_float32_matmul_precision(known)
