"""What each head adds to the residual stream: the out-projection applied to that head's slice, and what follows it.

``write = factor * norm(sum over heads of z[h] @ W_O[h] + bias)``, where the norm may be missing. With the norm's scale
held fixed this is a sum over heads. It is used only where it reproduces the write that the model made. Softmax
attention, latent attention (with a value head of its own width), DeltaNet and Mamba 2 mixers are all of this form.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.facts import numbers
from tl_nla.model.norms import NormForm, parameter, solve_norm
from tl_nla.model.quantised import is_quantised
from tl_nla.model.rounding import NO_FIT, Fit, compare, step_of

_LAST_LAYERS = ("o", "out_proj", "o_proj", "out", "output", "dense", "c_proj", "wo", "linear_out")
_HEAD_COUNTS = ("num_v_heads", "num_heads", "n_heads", "num_attention_heads", "nheads", "n_head")
_MIXERS = ("linear_attn", "mixer", "mamba", "conv", "ssm", "time_mix")


@dataclass(frozen=True)
class OutProjection:
    """The last linear layer of an attention or of another mixer.

    Attributes:
        layer: its block.
        kind: ``attn`` or ``mixer``.
        point: name of the point at which its input is seen; plain modules: :func:`tl_nla.model.hooks.tap`.
        module: the layer.
        heads: how many heads its input consists of.
        width: numbers that enter it.
    """

    layer: int
    kind: str
    point: str
    module: Any
    heads: int
    width: int

    def split(self, z: Tensor) -> Float[Tensor, "n head width"]:
        """The input by heads, float32; ``z`` is flat, one row a position, or already has an axis of heads."""
        flat = z if z.ndim == 2 else z.flatten(1)
        return flat.float().unflatten(-1, (self.heads, -1))


@dataclass(frozen=True)
class HeadSum:
    """A write as the sum of its heads, at the rows that it was solved on.

    Attributes:
        z: input of the out-projection by heads, float32.
        weight: of each head, norm's gain, centring and factors included.
        scale: what a norm behind the sum divides each row by; one number where there is none.
        constant: what belongs to no head: the projection's bias and the norm's shift, as they reach the stream.
        fit: how well the sum reproduces the write.
        version: of ``weight``, which may be the model's own and not a copy; ``None`` where torch counts none.
    """

    z: Float[Tensor, "n head width"]
    weight: Float[Tensor, "head width d"]
    scale: Tensor
    constant: Float[Tensor, "*n d"]
    fit: Fit
    version: int | None = None

    def writes(self, heads: Sequence[int] | None = None) -> Float[Tensor, "n heads d"]:
        """What the chosen heads add to the stream; all of them when ``None``.

        Raises:
            InputError: when the model's weights have changed since it was read.
        """
        self._check()
        z, weight = (self.z, self.weight) if heads is None else (self.z[:, list(heads)], self.weight[list(heads)])
        found = torch.einsum("nhd,hdm->nhm", z, weight)
        return found / (self.scale[:, None] if self.scale.ndim else self.scale)

    def __getstate__(self) -> dict[str, Any]:
        self._check()
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy, or what was read from a file, has weights of its own, whose changes are counted from here."""
        weight = state["weight"]
        self.__dict__.update(state, version=None if weight.is_inference() else weight._version)

    def _check(self) -> None:
        if self.version is not None and self.weight._version != self.version:
            raise InputError("the model's weights have changed since its heads were read; read them again")

    def rows(self, chosen: Int[Tensor, " m"]) -> "HeadSum":
        """The same at some of its rows."""
        scale = self.scale[chosen] if self.scale.ndim else self.scale
        constant = self.constant[chosen] if self.constant.ndim > 1 else self.constant
        return replace(self, z=self.z[chosen], scale=scale, constant=constant)


def out_projection(model: Any, layer: int, kind: str = "attn") -> OutProjection:
    """Find the out-projection of a block's attention or mixer.

    Raises:
        InputError: when there is none that heads could be read from; says what can be read instead.
    """
    block = model.blocks[layer]
    found = _component(block, kind)
    if found is None:
        raise InputError(f"blocks.{layer} of this model has no {kind}, so it has no heads there; read 'blocks.{layer}'")
    name, component = found
    if "W_O" in component._parameters:  # a HookedTransformer
        if is_quantised(component.W_O) or component.W_O.ndim != 3:
            raise InputError(
                f"the weights of this {type(model).__name__} are quantised, and heads are not read from such a one. "
                "Load the model with tl_nla.load(name, quantization=...), which gives a TransformerBridge"
            )
        heads, width, _ = component.W_O.shape
        return OutProjection(layer, kind, f"blocks.{layer}.{name}.hook_z", component, heads, heads * width)
    for owner in (component, getattr(component, "original_component", None)):
        for last in _LAST_LAYERS:
            module = getattr(owner, last, None)
            width = _input_width(model, module) if isinstance(module, nn.Module) else 0
            heads = _head_count(model, component, kind, width) if width else 0
            if heads:
                return OutProjection(layer, kind, f"blocks.{layer}.{name}.{last}.hook_in", module, heads, width)
    raise InputError(
        f"the {kind} of layer {layer} ({type(getattr(component, 'original_component', component)).__name__}) has no "
        f"out-projection over heads; read the whole write 'blocks.{layer}.{kind}' instead"
    )


def _component(block: Any, kind: str) -> tuple[str, Any] | None:
    for name in ("attn", "self_attn") if kind == "attn" else _MIXERS:
        if isinstance(getattr(block, name, None), nn.Module):
            return name, getattr(block, name)
    return None


def _input_width(model: Any, module: nn.Module) -> int:
    """How many numbers enter a linear layer that leads to the residual stream; 0 for any other module."""
    original = getattr(module, "original_component", module)
    width = getattr(original, "in_features", None)
    weight = parameter(module, "weight")
    if isinstance(width, int):
        return width
    if weight is None or weight.ndim != 2 or int(model.cfg.d_model) not in weight.shape:
        return 0
    return weight.shape[1] if weight.shape[0] == int(model.cfg.d_model) else weight.shape[0]


def _head_count(model: Any, component: Any, kind: str, width: int) -> int:
    original = getattr(component, "original_component", component)
    counts = [getattr(original, name, None) for name in _HEAD_COUNTS]
    config = getattr(original, "config", None)
    counts += [getattr(config, "num_attention_heads", None), int(model.cfg.n_heads)] if kind == "attn" else []
    if kind == "mixer" and "attention" in type(original).__name__.lower():
        counts.append(getattr(config, "num_attention_heads", None))
    return next((int(n) for n in counts if isinstance(n, int) and n > 0 and width % n == 0), 0)


def solve_heads(
    model: Any, projection: OutProjection, z: Tensor, write: Float[Tensor, "n d"], factor: float = 1.0
) -> HeadSum:
    """Write a part's write as the sum of its heads.

    Args:
        model: the TransformerLens model.
        projection: the part's out-projection.
        z: its input at some rows, flat or by heads.
        write: the part's write there, as its hook point shows it.
        factor: what multiplies it on its way to the stream.

    Raises:
        InputError: when the heads' sum is not the write; names the figure, what may be the reason, and what to try.
    """
    heads = projection.split(z)
    best: HeadSum | None = None
    for weight, bias in _weights(projection, heads):
        projected = _Projected(heads, weight, bias, torch.einsum("nhd,hdm->nm", heads, weight) + bias)
        for form, inner in behind(model, projection.layer, projected.total, write):
            found = _summed(projected, write, form, inner, factor)
            if best is None or found.fit.error < best.fit.error:
                best = found
            if found.fit.exact and form is None and inner == 1.0:
                return found
        if best is not None and best.fit.exact:
            return best
    figure = NO_FIT if best is None else best.fit
    if best is None or not (figure.exact or (_is_rounded(projection.module) and figure.error <= _ROUNDED)):
        raise InputError(
            f"the writes of the heads of layer {projection.layer} do not add up to its {projection.kind} write "
            f"({figure}). Either hooks of yours or autocast change it on the way: try without them. Or something "
            f"unknown stands between: read 'blocks.{projection.layer}.{projection.kind}' instead"
        )
    return best


class _Projected(NamedTuple):
    """Heads, and the out-projection's weight by heads, its bias, and what they make together."""

    heads: Tensor
    weight: Tensor
    bias: Tensor
    total: Tensor


def _summed(projected: _Projected, write: Tensor, form: NormForm | None, inner: float, factor: float) -> HeadSum:
    heads, weight, bias, total = projected
    step = step_of(write)
    if form is None:
        ours = total * inner
        terms = [(total - bias)[:_CHECKED] * inner, (bias * inner).expand_as(ours)[:_CHECKED]]
        fit = compare(write[:_CHECKED], terms, step)
        if not fit.exact:  # heads that cancel leave the rounding of what they were
            parts = torch.einsum("nhd,hdm->nhm", heads[:_CHECKED], weight).abs().sum(1)
            fit = _cancelled(write[:_CHECKED], ours[:_CHECKED], parts * abs(inner), step, fit)
        times = inner * factor
        scaled = weight if times == 1 else weight * times
        version = None if scaled.is_inference() else scaled._version
        return HeadSum(heads, scaled, torch.ones(()), bias * times, fit, version)
    scale = form.scale(total)
    linear = form.linear(total, scale)
    fit = compare(write[:_CHECKED], [linear[:_CHECKED], form.shift.expand_as(linear)[:_CHECKED]], step)
    unit = torch.ones(1, device=weight.device)
    constant = (form.linear(bias.expand_as(total), scale) + form.shift) * factor
    return HeadSum(heads, form.linear(weight, unit) * factor, scale, constant, fit)


_ROUNDED = 0.01
"""Error of a sum of heads that is let pass where the out-projection is quantised: kernels for four bits, and those that
round activations, do not compute with the very numbers that the weights mean. ``tl_nla.check`` tells it."""


def _is_rounded(module: Any) -> bool:
    weight = getattr(getattr(module, "original_component", module), "weight", None)
    return isinstance(weight, Tensor) and is_quantised(weight)


_CHECKED = 512
"""Rows that the sum of heads is checked on."""


def _cancelled(write: Tensor, ours: Tensor, size: Tensor, step: float, fit: Fit) -> Fit:
    allowed = step * (write.abs() + ours.abs()) + 2e-4 * size + 2e-4 * size.square().mean(-1, keepdim=True).sqrt()
    excess = ((write.float() - ours).abs() / allowed.clamp_min(1e-30)).max().item()
    return Fit(fit.error, min(fit.excess, excess))


def _weights(projection: OutProjection, heads: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The weight by heads and the bias, float32: as stored (both ways round), and as the module itself applies it."""
    module, width = projection.module, heads.shape[-1] * heads.shape[-2]
    shape = (heads.shape[-2], heads.shape[-1])
    if "W_O" in module._parameters:
        yield module.W_O.detach().float(), module.b_O.detach().float()
        return
    weight, bias = parameter(module, "weight"), parameter(module, "bias")
    if weight is not None and weight.is_floating_point() and weight.ndim == 2:
        conv = type(getattr(module, "original_component", module)).__name__ == "Conv1D"
        for stored in (weight, weight.T) if conv else (weight.T, weight):
            if stored.shape[0] == width:
                offset = torch.zeros(stored.shape[1], device=stored.device) if bias is None else bias.float()
                yield stored.float().unflatten(0, shape), offset
    made = _applied(getattr(module, "original_component", module), width, heads)
    yield (made[:-1] - made[-1]).unflatten(0, shape), made[-1]


@torch.no_grad()
def _applied(layer: nn.Module, width: int, heads: Tensor) -> Float[Tensor, "more d"]:
    """What a layer with an adapter, or a quantised one, makes of each input by itself, and at last of nothing."""
    like = next(iter(layer.parameters()), heads)
    eye = torch.eye(width + 1, width, device=like.device)[None]
    if like.dtype in (torch.float16, torch.bfloat16):
        with suppress(Exception):  # whatever a stranger's layer raises, it can be applied as it is
            # A difference of numbers that are stored in half precision would hold the rounding of both.
            return copy.deepcopy(layer).float()(eye)[0].float()
    return layer(eye.to(like.dtype) if like.is_floating_point() else eye)[0].float()


def behind(model: Any, layer: int, total: Tensor, write: Tensor) -> Iterator[tuple[NormForm | None, float]]:
    """What may stand between a sum of writes and the block's write: nothing, a multiplier, or one of its norms."""
    yield None, 1.0
    square = total.double().square().sum()
    fitted = ((total.double() * write.double()).sum() / square).item() if square > 0 else 1.0
    # Numbers of the configuration only: one that was fitted here would also swallow what a user's hook changes.
    yield from ((None, number) for number in numbers(model) if abs(number - fitted) <= 0.02 * abs(number))
    for name, module in model.blocks[layer].named_children():
        if name.startswith("ln") or "norm" in name:
            yield solve_norm(module, total, write), 1.0
