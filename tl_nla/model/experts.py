"""What each expert of a mixture adds to the residual stream.

A mixture of Hugging Face calls its experts once, with the states, the experts that the router chose for each position
and their weights. The same call with one choice a position gives the write of that expert alone. It is used only where
the experts, and a shared expert where there is one, add up to the write that the model made.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.facts import branches_of
from tl_nla.model.heads import behind
from tl_nla.model.norms import NormForm
from tl_nla.model.rounding import NO_FIT, Fit, compare, step_of

_WRAPPED = "_original_component"
_SHARED = re.compile(r"^shared_(experts?|mlp)$")
_GATE = "shared_expert_gate"


@dataclass(frozen=True)
class Mixture:
    """The experts of a block.

    Attributes:
        layer: the block.
        module: takes states, chosen experts and their weights.
        count: how many experts it has.
        beside: modules next to it that every position passes, by name: a shared expert, and the gate on it.
    """

    layer: int
    module: nn.Module
    count: int
    beside: dict[str, nn.Module]


@dataclass(frozen=True)
class ExpertSum:
    """A mixture's write as the sum of its experts, at the rows that it was solved on.

    Attributes:
        index: the experts that the router chose.
        weight: how much of each it took.
        parts: what each of them adds to the stream, float32, norm's gain, centring and factors included.
        rest: what belongs to no chosen expert: a shared expert, and the shift of a norm behind the sum.
        fit: how well the sum reproduces the write.
    """

    index: Int[Tensor, "n k"]
    weight: Float[Tensor, "n k"]
    parts: Float[Tensor, "n k d"]
    rest: Float[Tensor, "n d"]
    fit: Fit

    def writes(self, experts: Sequence[int]) -> Float[Tensor, "n experts d"]:
        """What some experts add to the stream; zero at positions that the router did not send to them."""
        chosen = torch.stack([self.index == expert for expert in experts], 1).to(self.parts.dtype)
        return torch.einsum("nek,nkd->ned", chosen, self.parts)


def mixture_of(model: Any, layer: int) -> Mixture:
    """Find the experts of a block.

    Raises:
        InputError: when there are none that can be run one by one; says what can be read instead.
    """
    modules = dict(model.blocks[layer].named_modules())
    for name, module in modules.items():
        count = getattr(module, "num_experts", None)
        if not type(module).__name__.endswith("Experts") or not isinstance(count, int) or not _takes_choices(module):
            continue
        whole = name.removesuffix(f".{_WRAPPED}")
        parent = modules[whole.rpartition(".")[0]]
        beside = {other: found for other, found in parent.named_children() if _SHARED.match(other) or other == _GATE}
        return Mixture(layer, module, count, beside)
    raise InputError(
        f"blocks.{layer} of {type(model).__name__} has no experts that are called with the router's choices, so none "
        f"can be read alone; read the whole write 'blocks.{layer}.mlp' instead"
    )


def _takes_choices(module: nn.Module) -> bool:
    code = getattr(type(module).forward, "__wrapped__", type(module).forward).__code__
    return code.co_argcount >= 4


@contextmanager
def watch_mixtures(
    model: Any, layers: Sequence[int], mask: Bool[Tensor, "batch pos"], kept: dict[int, dict[str, Tensor]]
) -> Iterator[None]:
    """Keep what enters the experts of some blocks, and what the modules beside them give, at chosen positions.

    Args:
        model: the TransformerLens model.
        layers: blocks with experts.
        mask: the positions that are kept.
        kept: gets, by layer, ``hidden``, ``index`` and ``weight``, and outputs by the modules' names.
    """
    with ExitStack() as stack:
        for layer in layers:
            mixture, own = mixture_of(model, layer), kept.setdefault(layer, {})
            before = _entering(own, mask)
            stack.callback(mixture.module.register_forward_pre_hook(before, with_kwargs=True).remove)
            for name, module in mixture.beside.items():
                stack.callback(module.register_forward_hook(_leaving(own, name, mask)).remove)
        yield


def _entering(own: dict[str, Tensor], mask: Tensor) -> Any:
    def keep(module: nn.Module, args: tuple[Any, ...], settings: dict[str, Any]) -> None:
        given = [*args, *settings.values()]
        for name, value in zip(("hidden", "index", "weight"), given, strict=False):
            _store(own, name, value, mask)

    return keep


def _leaving(own: dict[str, Tensor], name: str, mask: Tensor) -> Any:
    def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        _store(own, name, output, mask)

    return keep


def _store(own: dict[str, Tensor], name: str, value: Any, mask: Tensor) -> None:
    if isinstance(value, Tensor) and value.ndim >= 2 and value[..., 0].numel() == mask.numel():
        own[name] = value.detach().reshape(mask.numel(), -1)[mask.flatten().to(value.device)]


@torch.no_grad()
def solve_experts(
    model: Any, layer: int, seen: Mapping[str, Tensor], values: Mapping[str, Float[Tensor, "n d"]]
) -> ExpertSum:
    """Write a mixture's write as the sum of its experts.

    Args:
        model: the TransformerLens model.
        layer: the block.
        seen: what :func:`watch_mixtures` kept of it.
        values: the MLP's write by hook point, at the same rows.

    Raises:
        InputError: when the sum is not the write; names the figure, what may be the reason, and what to try.
    """
    mixture = mixture_of(model, layer)
    if not {"hidden", "index", "weight"} <= seen.keys() or seen["index"].is_floating_point():
        raise InputError(
            f"the experts of layer {layer} ({type(mixture.module).__name__}) are not called with the router's choices "
            f"for every position; read 'blocks.{layer}.mlp' instead"
        )
    parts = _alone(mixture, seen)
    form, branches = branches_of(model, layer, "mlp")
    best = NO_FIT
    for branch in branches:
        write, factor = values[branch.point], branch.factor * form.carry
        others = sum((values[other.point].float() * other.factor * form.carry for other in branches if other != branch),
                     torch.zeros(()))  # fmt: skip
        for shared in _shared(seen, parts):
            found = _summed(model, layer, parts, shared, write)
            best = min(best, found.fit, key=lambda fit: fit.error)
            if found.fit.exact:
                rest = found.rest * factor + others.to(found.rest.device)
                return ExpertSum(seen["index"], seen["weight"], found.parts * factor, rest, found.fit)
    raise InputError(
        f"the writes of the experts of layer {layer} do not add up to its MLP's write ({best}). Either hooks of yours "
        f"or autocast change it on the way: try without them. Or something unknown stands between: read "
        f"'blocks.{layer}.mlp' instead"
    )


def _alone(mixture: Mixture, seen: Mapping[str, Tensor]) -> Float[Tensor, "n k d"]:
    """The module's output for each single choice, not through its hooks."""
    hidden, index, weight = seen["hidden"], seen["index"], seen["weight"]
    single = [mixture.module.forward(hidden, index[:, k : k + 1], weight[:, k : k + 1]) for k in range(index.shape[1])]
    return torch.stack([output.reshape(len(hidden), -1).float() for output in single], 1)


def _shared(seen: Mapping[str, Tensor], parts: Tensor) -> Iterator[Float[Tensor, "n d"]]:
    """What may stand beside the chosen experts: a shared expert, behind its gate or not, or nothing."""
    for name, output in seen.items():
        if _SHARED.match(name):
            if _GATE in seen:
                yield seen[_GATE].float().sigmoid() * output.float()
            yield output.float()
    yield torch.zeros_like(parts[:, 0])


@dataclass(frozen=True)
class _Sum:
    parts: Tensor
    rest: Tensor
    fit: Fit


def _summed(model: Any, layer: int, parts: Tensor, shared: Tensor, write: Tensor) -> _Sum:
    """The best of what may stand between the sum and the write: nothing, a multiplier, or a norm."""
    # A module adds its experts up in the model's precision, and rounds each time.
    step = step_of(write) * max(1.0, (parts.shape[1] + 1) / 2)
    total = parts.sum(1) + shared
    best: _Sum | None = None
    for form, inner in behind(model, layer, total, write):
        found = _judged(parts, shared, total, write, form, inner, step)
        if found.fit.exact:
            return found
        best = found if best is None or found.fit.error < best.fit.error else best
    return best or _Sum(parts, shared, NO_FIT)


def _judged(
    parts: Tensor, shared: Tensor, total: Tensor, write: Tensor, form: NormForm | None, inner: float, step: float
) -> _Sum:
    if form is None:
        own, rest, shift = parts * inner, shared * inner, torch.zeros_like(shared)
    else:
        scale = form.scale(total)
        own, rest = form.linear(parts, scale[:, None]), form.linear(shared, scale)
        shift = form.shift.to(rest.device).expand_as(rest)
    fit = compare(write, [*own.unbind(1), rest, shift], step)
    return _Sum(own, rest + shift, fit)
