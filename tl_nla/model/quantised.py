"""Weights held in eight or four bits: the schemes by name, and such weights as the floating-point numbers they mean."""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tl_nla.errors import InputError, unknown

SCHEMES = {"int8": "torchao", "nf4": "bitsandbytes"}
"""Library behind each scheme. Both round the weights of linear layers; activations stay in the model's precision."""
_NOISY = ("torchao", "torch.utils._pytree", "bitsandbytes")


def known_scheme(name: str) -> str:
    """The name itself.

    Raises:
        InputError: for an unknown scheme, or one whose library is not installed.
    """
    if name not in SCHEMES:
        raise unknown("quantization", name, SCHEMES)
    if importlib.util.find_spec(SCHEMES[name]) is None:
        raise InputError(f"quantization {name!r} needs {SCHEMES[name]}: pip install 'tl-nla[{name}]'")
    return name


def quantization_settings(scheme: str, dtype: torch.dtype | None) -> Any:
    """What transformers' ``from_pretrained`` takes as ``quantization_config``.

    Args:
        scheme: ``"int8"``: a step for each output row (torchao, CPU and GPU). ``"nf4"``: four bits in blocks of 64
            (bitsandbytes; Dettmers et al. 2023, "QLoRA"), made for GPUs.
        dtype: that products are computed in; float32 when ``None``.
    """
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if scheme == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype or torch.float32
        )
    with quiet_libraries():
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())


def is_quantised(weight: Tensor) -> bool:
    """Whether a weight's stored numbers are no floating-point numbers."""
    return (
        hasattr(weight, "quant_state")
        or "torchao" in type(weight.data).__module__
        or not weight.dtype.is_floating_point
    )


def dequantised(weight: Tensor) -> Tensor:
    """A weight as floating-point numbers: itself, or what its stored numbers mean; no gradient goes through it."""
    state = getattr(weight, "quant_state", None)
    if state is not None:
        from bitsandbytes.functional import dequantize_4bit

        found: Tensor = dequantize_4bit(weight.data, state)
        return found
    if "torchao" in type(weight.data).__module__:
        return weight.detach().dequantize()
    return weight.detach()


def scheme_of(model: Any) -> str | None:
    """How a model's linear layers are held: ``"int8"``, ``"nf4"``, ``"other"``; ``None`` where all are plain."""
    for parameter in model.parameters():
        if is_quantised(parameter):
            return (
                "nf4" if hasattr(parameter, "quant_state") else "int8" if parameter.dtype.is_floating_point else "other"
            )
    return None


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without the lines that quantisation libraries log while they are imported about kernels that are not there."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        if importlib.util.find_spec("torchao") is not None:
            import torchao  # noqa: F401  (transformers imports it as soon as it is installed)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
