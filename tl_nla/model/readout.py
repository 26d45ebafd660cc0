"""From the last residual state to logits: final norm, unembedding, multiplier and soft cap, as the model does it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.norms import NormForm, parameter, solve_norm
from tl_nla.model.rounding import NO_FIT, Fit, compare, step_of, unmixed

_ROWS = 8
_CHUNK = 2**22
"""Elements of the unembedding that are held in float32 at once."""


@dataclass(frozen=True)
class ReadOut:
    """What the model does behind its last block.

    Attributes:
        model: the TransformerLens model.
        norm: the final norm.
        multiplier: factor on the logits (Cohere, Granite, MiniCPM), 1 for most families.
        cap: ``c`` of ``c * tanh(logits / c)`` (Gemma 2), or ``None``.
        stream: the precision in which the model keeps the last state.
        fit: how well all of this reproduces the logits of the run that it was solved on.
    """

    model: Any
    norm: NormForm
    multiplier: float = 1.0
    cap: float | None = None
    stream: torch.dtype | None = None
    fit: Fit = NO_FIT

    def logits(self, last: Float[Tensor, "*rows d"], capped: bool = True) -> Float[Tensor, "*rows vocab"]:
        """Logits of last residual states, by the model's own modules and in its own precision."""
        with torch.no_grad():  # states that were computed in float32 fit no LayerNorm of bfloat16
            normal = final_norm(self.model, last if self.stream is None else last.to(self.stream))
            logits = unembedded(self.model, normal)
            logits = logits if self.multiplier == 1 else logits * self.multiplier
        return logits if self.cap is None or not capped else self.cap * torch.tanh(logits / self.cap)

    def rows(self, ids: Int[Tensor, "*ids"]) -> Float[Tensor, "*ids d"]:
        """The directions behind the final norm that some tokens' logits read, float32."""
        weight = self.model.W_U.detach()
        return weight.T[ids.to(weight.device)].float() * self.multiplier

    def mean_row(self, weights: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows d"]:
        """The weighted sum of all tokens' directions, float32; the unembedding is cast piece by piece."""
        weight, total = self.model.W_U.detach(), None
        step = max(1, _CHUNK // weight.shape[0])
        for first in range(0, weight.shape[1], step):
            piece = weight[:, first : first + step].float()
            with unmixed(piece):
                part = weights[..., first : first + step].float().to(piece.device) @ piece.T
            total = part if total is None else total + part
        if total is None:
            raise InputError("the unembedding holds no token")
        return total * self.multiplier


def final_norm(model: Any, last: Tensor) -> Tensor:
    """The final norm's output; the state itself where the model has none."""
    norm = getattr(model, "ln_final", None)
    return last if norm is None else norm(last)


def unembedded(model: Any, normal: Tensor) -> Tensor:
    """The unembedding of what the final norm gave, which some families keep in float32 until here."""
    weight = parameter(model.unembed, "weight", "W_U")
    return model.unembed(normal if weight is None or not weight.is_floating_point() else normal.to(weight.dtype))


@torch.no_grad()
def solve_readout(model: Any, last: Float[Tensor, "batch pos d"], logits: Float[Tensor, "batch pos vocab"]) -> ReadOut:
    """Find what the model does behind its last block from what it did.

    Returns:
        The best of all candidates; its ``fit`` and the norm's tell how good it is.
    """
    last, logits = last[:, -_ROWS:], logits[:, -_ROWS:]
    normal = final_norm(model, last)
    norm = solve_norm(getattr(model, "ln_final", None), last, normal)
    raw = unembedded(model, normal).float()
    best = ReadOut(model, norm, stream=last.dtype)
    if raw.shape != logits.shape:
        return best
    step = step_of(logits, last)
    for fitted in (False, True):  # a fitted number follows the rounding: it is for what the configuration does not tell
        for cap in soft_caps(model):
            for multiplier in _fitted(raw, logits.float(), cap) if fitted else _multipliers(model):
                ours = raw * multiplier
                ours = ours if cap is None else cap * torch.tanh(ours / cap)
                fit = compare(logits, [ours], step)
                if fit.error < best.fit.error:
                    best = replace(best, multiplier=multiplier, cap=cap, fit=fit)
        if best.fit.exact:
            return best
    return best


def soft_caps(model: Any) -> list[float | None]:
    """No cap, and the caps on the logits that the configuration names."""
    found = {getattr(model.cfg, "output_logits_soft_cap", None), config_value(model, "final_logit_softcapping")}
    return [None, *sorted(float(cap) for cap in found if cap is not None and cap > 0)]


def config_value(model: Any, name: str) -> Any:
    """A value of the Hugging Face configuration, the text model's own where it has several; ``None`` if not there."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    for owner in (config, getattr(config, "text_config", None)):
        value = getattr(owner, name, None)
        if value is not None:
            return value
    return None


def _multipliers(model: Any) -> Iterator[float]:
    """Factors on the logits that the configuration names."""
    yield 1.0
    for name in ("logit_scale", "lm_head_multiplier"):
        value = config_value(model, name) or getattr(model.cfg, name, None)
        if value:
            yield float(value)
    for name in ("logits_scaling", "logits_scale"):
        value = config_value(model, name)
        if value:
            yield 1.0 / float(value)


def _fitted(raw: Tensor, logits: Tensor, cap: float | None) -> Iterator[float]:
    """The factor on the logits that the run itself shows."""
    inside, wanted = torch.ones_like(raw, dtype=torch.bool), logits
    if cap is not None:
        inside = logits.abs() < 0.9 * cap  # near the cap the inverse loses its digits
        wanted = cap * torch.atanh((logits / cap).clamp(-0.9, 0.9))
    given = raw[inside].double()
    if len(given) and float(given.square().sum()) > 0:
        yield float((given @ wanted[inside].double()) / given.square().sum())
