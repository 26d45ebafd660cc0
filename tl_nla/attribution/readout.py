"""From the last residual state to logits, checked against the logits that the model itself gave."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.attribution.capture import CleanRun
from tl_nla.errors import InputError


def soft_cap(model: Any) -> float | None:
    """The cap ``c`` of ``c * tanh(logits / c)`` on the output (Gemma 2), or None."""
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    if cap is None or cap <= 0:
        cap = getattr(_hf_config(model), "final_logit_softcapping", None)
    return float(cap) if cap is not None and cap > 0 else None


def logit_scale(model: Any) -> float:
    """The factor on the logits (Cohere, Granite), 1 for most families."""
    scale = getattr(model.cfg, "logit_scale", None) or getattr(_hf_config(model), "logit_scale", None)
    return float(scale) if scale else 1.0


def _hf_config(model: Any) -> Any:
    return getattr(getattr(model, "original_model", None), "config", None)


def read_out(model: Any, residual: Float[Tensor, "... pos d_model"]) -> Float[Tensor, "... pos vocab"]:
    """Final norm, unembedding, logit scale and soft cap of the model applied to a last residual state."""
    with torch.no_grad():
        logits = model.unembed(model.ln_final(residual)) * logit_scale(model)
        cap = soft_cap(model)
        return logits if cap is None else cap * torch.tanh(logits / cap)


def check_read_out(model: Any, clean: CleanRun) -> None:
    """Make sure that ``read_out`` is what the model does after its last block.

    Raises:
        InputError: it is not, so that nothing computed through it could be trusted.
    """
    given, ours = clean.logits[:, -1:], read_out(model, clean.inputs[-1][:, -1:])
    allowed = 128 * torch.finfo(given.dtype).eps * (1.0 + given.abs().max().item())
    error = (given - ours).abs().max().item()
    if not error <= allowed:
        raise InputError(
            f"{type(model).__name__} does more after its last block than final norm, unembedding, scale and soft cap "
            f"(logits differ by {error:.2g}); this family is not supported here"
        )
