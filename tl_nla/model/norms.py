"""One solver for norms: the linear form that a norm has once its scale at each position is held fixed.

Every norm of these models is ``gain * (x - mean(x)?) / scale(x) + shift``. Whether it centres, and whether its gain is
the weight, one plus the weight or something else, is decided by trying all of them on what the model itself computed
and keeping the one that reproduces it best. Families are not known by name.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.quantised import dequantised
from tl_nla.model.rounding import NO_FIT, Fit, compare, step_of


@dataclass(frozen=True)
class NormForm:
    """A norm with its scale taken from the vector that it normalises.

    Attributes:
        gain: factor of each channel, float32.
        shift: what is added to each channel, float32.
        centred: whether the mean over channels is subtracted first.
        eps: added to the mean square under the root.
        identity: whether there is no norm at all.
        fit: how well this form reproduces the norm's own output.
    """

    gain: Float[Tensor, " d"]
    shift: Float[Tensor, " d"]
    centred: bool
    eps: float
    identity: bool = False
    fit: Fit = NO_FIT

    def scale(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows 1"]:
        """What the norm divides ``x`` by, in float32."""
        x = x.float()
        if self.identity:
            return torch.ones_like(x[..., :1])
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        return (x.square().mean(-1, keepdim=True) + self.eps).sqrt()

    def linear(self, vector: Float[Tensor, "*rows d"], scale: Float[Tensor, "*scales 1"]) -> Float[Tensor, "*out d"]:
        """The norm's linear part applied to a vector, at a fixed scale and without the shift."""
        vector = vector.float()
        vector = vector - vector.mean(-1, keepdim=True) if self.centred else vector
        return vector / scale.to(vector.device) * self.gain.to(vector.device)

    def pull_back(self, row: Float[Tensor, "*rows d"], scale: Float[Tensor, "*scales 1"]) -> Float[Tensor, "*out d"]:
        """The direction before the norm that a direction behind it reads: the transpose of :meth:`linear`."""
        row = row.float() * self.gain.to(row.device)
        row = row - row.mean(-1, keepdim=True) if self.centred else row
        return row / scale.to(row.device)

    def __call__(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """The norm itself, in float32."""
        return self.linear(x, self.scale(x)) + self.shift.to(x.device)


def solve_norm(
    module: Any, given: Float[Tensor, "*rows d"], output: Float[Tensor, "*rows d"], default_eps: float = 1e-5
) -> NormForm:
    """Find the form of a norm that reproduces what it made of some vectors.

    Args:
        module: the norm (a TransformerLens component or a plain module); ``None`` or one without parameters is allowed.
        given: vectors that entered it in a run of the model.
        output: what it made of them.
        default_eps: where the module tells none.

    Returns:
        The best form of all candidates. Its ``fit`` says whether the norm is reproduced up to rounding: the caller
        decides what to do when it is not.
    """
    # Rows are few on purpose: one form holds for all of them.
    x, y = given.flatten(0, -2)[:256].float(), output.flatten(0, -2)[:256]
    step = step_of(given, output)
    best: NormForm | None = None
    for form in candidates(module, x, default_eps):
        linear = form.linear(x, form.scale(x))
        fit = compare(y, [linear, form.shift.to(x).expand_as(linear)], step)
        if best is None or fit.error < best.fit.error:
            best = replace(form, fit=fit)
    if best is None:
        raise InputError(f"{type(module).__name__}: no candidate for the form of this norm")
    return best


def candidates(module: Any, like: Tensor, default_eps: float = 1e-5) -> Iterator[NormForm]:
    """Every form that a norm with these parameters may have."""
    width = like.shape[-1]
    weight, bias = parameter(module, "weight", "w", "scale"), parameter(module, "bias", "b")
    weight = weight if weight is not None and weight.shape == (width,) else None
    bias = bias if bias is not None and bias.shape == (width,) else None
    one, zero = torch.ones(width, device=like.device), torch.zeros(width, device=like.device)
    gains = [one] if weight is None else [weight.float().to(like.device), 1 + weight.float().to(like.device), one]
    shifts = [zero] if bias is None else [bias.float().to(like.device), zero]
    eps = epsilon(module, default_eps)
    yield NormForm(one, zero, False, 0.0, identity=True)
    for centred in (False, True):
        for gain in [*gains, *_probed_gain(module, like, centred, eps)]:
            for shift in shifts:
                yield NormForm(gain, shift, centred, eps)


def parameter(module: Any, *names: str) -> Tensor | None:
    """A parameter of a component or of the module it wraps, dequantised; ``None`` where none has these names."""
    for owner in (getattr(module, "original_component", None), module):
        for name in names:
            value = getattr(owner, name, None)
            if isinstance(value, Tensor):
                return dequantised(value)
    return None


def epsilon(module: Any, default: float) -> float:
    """The number under a norm's root, by whichever name it goes."""
    for owner in (getattr(module, "original_component", None), module, getattr(module, "config", None)):
        for name in ("eps", "variance_epsilon", "epsilon"):
            value = getattr(owner, name, None)
            if isinstance(value, Tensor) and value.numel() == 1:
                return float(value)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
    return default


def _probed_gain(module: Any, like: Tensor, centred: bool, eps: float) -> Iterator[Tensor]:
    """The gain as a float32 copy of the wrapped module shows it, for parameters that nobody has told us about."""
    original = getattr(module, "original_component", None)
    if original is None or sum(p.numel() for p in original.parameters()) > 8 * like.shape[-1]:
        return
    try:
        alone = copy.deepcopy(original).float().eval()
        probe = torch.linspace(-1.0, 1.0, like.shape[-1] + 1, device=like.device)[: like.shape[-1]] + 2e-3
        probe = 1e3 * torch.stack([probe, -probe])[None]
        with torch.no_grad():
            up, down = alone(probe)[0].float()
    except Exception:  # whatever a stranger's norm raises, the other candidates remain
        return
    plain = NormForm(torch.ones_like(up), torch.zeros_like(up), centred, eps)
    unit = plain(probe[0, 0])
    if bool((unit.abs() > 1e-6).all()):
        yield (up - down) / 2 / unit
