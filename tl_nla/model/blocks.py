"""What each block adds to the residual stream, as a sum of its parts: found by trying, and proved on a run.

A block gives ``carry * (input + sum of factor * part)``. Attention, MLP, other mixers (DeltaNet, convolution, Mamba)
and per-layer embeddings are parts. Residual multipliers are factors. The layer scalar of Gemma 4 is the carry. None of
it is known by the family's name: the numbers of one short run decide, and what does not reproduce them is not used.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.model.rounding import NO_FIT, Fit, compare, step_of

KINDS = ("attn", "mixer", "mlp", "ple")
"""Kinds of parts: attention, another mixer of positions, MLP or experts, per-layer embeddings."""
_MORE = 5  # parts that may be added to those that TransformerLens names
_SNAP = 2e-2
_LEAST = 0.02


@dataclass(frozen=True)
class Branch:
    """One tensor that a block adds to the stream.

    Attributes:
        kind: one of ``KINDS``.
        point: the hook point at which it is seen.
        factor: what multiplies it on its way into the sum.
    """

    kind: str
    point: str
    factor: float = 1.0


@dataclass(frozen=True)
class BlockForm:
    """How a block's output is made of its input and its parts.

    Attributes:
        layer: the block.
        branches: its parts; empty when no sum of parts reproduces the block.
        carry: what multiplies the sum of input and parts.
        fit: how well the sum reproduced the block's output, the best attempt when it did not.
    """

    layer: int
    branches: tuple[Branch, ...] = ()
    carry: float = 1.0
    fit: Fit = NO_FIT

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of parts that this block has, in their order."""
        return tuple(kind for kind in KINDS if any(branch.kind == kind for branch in self.branches))

    def points(self, kind: str) -> list[str]:
        """Hook points that make up the write of one kind of part."""
        return [branch.point for branch in self.branches if branch.kind == kind]

    def write(self, kind: str, values: Mapping[str, Tensor]) -> Float[Tensor, "*rows d"]:
        """What the part adds to the block's output, in the precision of the values when it is added as it is."""
        own = [branch for branch in self.branches if branch.kind == kind]
        terms = [_times(values[branch.point], branch.factor * self.carry) for branch in own]
        return terms[0] if len(terms) == 1 else torch.stack([term.float() for term in terms]).sum(0)


def _times(value: Tensor, factor: float) -> Tensor:
    return value if factor == 1.0 else value.float() * factor


def solve_block(layer: int, values: Mapping[str, Tensor], known: Sequence[float] = ()) -> BlockForm:
    """Find the sum of parts that reproduces one block's output.

    Args:
        layer: the block.
        values: tensors of a run by hook point (see :func:`tl_nla.model.probe.probe`).
        known: numbers of the configuration that a multiplier may equal.

    Returns:
        The form; without branches, and with the best attempt's figure, when none reproduces the block up to rounding.
    """
    prefix = f"blocks.{layer}."
    before, after = values.get(f"{prefix}hook_resid_pre"), values.get(f"{prefix}hook_resid_post")
    if before is None or after is None:
        return BlockForm(layer)
    task = _Task(layer, before, after, dict(_candidates(prefix, values)), tuple(known))
    best = BlockForm(layer)
    named, *more = _declared(prefix, task.parts)
    for names in (named, *more):
        found = task.attempt(names)
        if found.fit.exact:
            return task.pruned(names, found, named)
        best = min(best, found, key=lambda form: form.fit.error)
    found = task.pursue(named)
    if found.fit.exact:
        return found
    best = min(best, found, key=lambda form: form.fit.error)
    return BlockForm(layer, fit=best.fit)


def _declared(prefix: str, parts: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """The parts that TransformerLens names, then the same with the mixers and sublayers that it does not."""
    named = [f"{prefix}{name}" for name in ("hook_attn_out", "hook_mlp_out") if f"{prefix}{name}" in parts]
    yield named
    own = [name for name in parts if re.fullmatch(rf"{re.escape(prefix)}(?!ln|.*norm)[a-z_]+\.hook_out", name)]
    others = [name for name in own if not any(torch.equal(parts[name], parts[other]) for other in named)]
    if others:
        yield [*named, *[name for name in others if kind_of(name) != "attn" or not _has(named, "attn")]]


def _has(names: Sequence[str], kind: str) -> bool:
    return any(kind_of(name) == kind for name in names)


def _candidates(prefix: str, values: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the block that may be a part, those nearest to the block first."""
    skipped = ("hook_in", "hook_normalized", "hook_hidden_states")
    for name in sorted(values, key=lambda name: (name.count("."), name)):
        short = name[len(prefix) :]
        stream = short in ("hook_in", "hook_out") or short.startswith("hook_resid")
        if name.startswith(prefix) and not stream and not short.endswith(skipped):
            yield name, values[name]


def kind_of(point: str) -> str:
    """Which kind of part a hook point belongs to, by the sublayer that it is named after."""
    short = point.split(".", 2)[2]
    name = short.split(".")[0]
    if "per_layer" in name:
        return "ple"
    if short == "hook_attn_out" or name in ("attn", "self_attn") or name == "ln1_post":
        return "attn"
    if short == "hook_mlp_out" or re.search(r"mlp|moe|experts|feed_?forward|ffn|channel_mix|ln2_post", name):
        return "mlp"
    return "mixer"


@dataclass(frozen=True)
class _Task:
    """One block's numbers, and the attempts to explain them."""

    layer: int
    before: Tensor
    after: Tensor
    parts: dict[str, Tensor]
    known: tuple[float, ...]

    def attempt(self, names: Sequence[str]) -> BlockForm:
        """The sum of these parts: as they are, and with fitted multipliers."""
        plain = self._judge(names, 1.0, [1.0] * len(names))
        if plain.fit.exact:
            return plain
        carry, factors = self._fitted(names)
        return min(plain, self._judge(names, carry, factors), key=lambda form: form.fit.error)

    def pursue(self, names: Sequence[str]) -> BlockForm:
        """Add the parts that explain most of what is left until the sum is exact, then drop those that do nothing."""
        chosen = list(names)
        for _ in range(_MORE):
            found = self.attempt(chosen)
            if found.fit.exact:
                return self.pruned(chosen, found)
            left = self._left(chosen).flatten()
            rest = [name for name in self.parts if name not in chosen]
            if not rest:
                break
            shares = [_share(left, self.parts[name].double().flatten()) for name in rest]
            chosen.append(rest[max(range(len(rest)), key=shares.__getitem__)])
        return self.attempt(chosen)

    def pruned(self, names: Sequence[str], found: BlockForm, kept: Sequence[str] = ()) -> BlockForm:
        """The form without those parts that explain nothing, but for those that are kept in any case."""
        for name in [name for name in names if name not in kept]:
            fewer = [other for other in names if other != name]
            # A part that is small beside the stream may hide in the rounding: it stays if it explains anything.
            if self._left(fewer).norm() <= 1.01 * self._left(names).norm():
                without = self.attempt(fewer)
                if without.fit.exact:
                    names, found = fewer, without
        return found

    def _columns(self, names: Sequence[str]) -> Tensor:
        return torch.stack([self.before, *(self.parts[name] for name in names)]).double().flatten(1).T

    def _solution(self, names: Sequence[str]) -> Tensor:
        columns = self._columns(names)
        scale = columns.norm(dim=0).clamp_min(1e-30)
        solved = torch.linalg.lstsq(
            (columns / scale).cpu(), self.after.double().flatten()[:, None].cpu(), driver="gelsd"
        )
        return solved.solution[:, 0] / scale.cpu()

    def _left(self, names: Sequence[str]) -> Tensor:
        columns = self._columns(names)
        return self.after.double().flatten() - columns @ self._solution(names).to(columns)

    def _fitted(self, names: Sequence[str]) -> tuple[float, list[float]]:
        first, *rest = self._solution(names).tolist()
        # A carry near zero would say that the block forgets its input: a fit of that kind explains nothing.
        carry = self._snapped(first) if _LEAST < abs(first) < 1 / _LEAST else 1.0
        return carry, [self._snapped(value / carry) for value in rest]

    def _snapped(self, value: float) -> float:
        """The known number next to a fitted one: fits follow the rounding, configurations do not."""
        near = [number for number in (1.0, *self.known) if abs(number - value) <= _SNAP * max(abs(number), 1e-3)]
        return min(near, key=lambda number: abs(number - value)) if near else value

    def _judge(self, names: Sequence[str], carry: float, factors: Sequence[float]) -> BlockForm:
        terms = [carry * self.before.float()]
        terms += [carry * factor * self.parts[name].float() for name, factor in zip(names, factors, strict=True)]
        fit = compare(self.after, terms, step_of(self.before, self.after, *(self.parts[name] for name in names)))
        branches = tuple(Branch(kind_of(name), name, factor) for name, factor in zip(names, factors, strict=True))
        return replace(BlockForm(self.layer), branches=branches, carry=carry, fit=fit)


def _share(left: Tensor, part: Tensor) -> float:
    norm = part.norm().item()
    return abs((left @ part.to(left)).item()) / norm if norm > 0 else 0.0
