"""What every position would predict next with one component left out there, for all positions in about one forward.

The definition is that of an ordinary ablation, one component and one position at a time: at position t the component
writes nothing (or a given vector instead), all earlier positions are as in the clean run, and the prediction at t is
read. The computation differs, not the result: see ``tl_nla.attribution.replay``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.attribution.capture import capture
from tl_nla.attribution.clean_run import CleanRun
from tl_nla.attribution.components import Component, all_components, as_component
from tl_nla.attribution.exactness import check_causal, check_writable
from tl_nla.attribution.left_out import Group, Way, last_states
from tl_nla.attribution.readout import read_out_of
from tl_nla.errors import InputError
from tl_nla.model.predicted import predicted_ids
from tl_nla.model.probe import lock_of
from tl_nla.model.readout import ReadOut
from tl_nla.model.rounding import unmixed

VOCAB_BUDGET = 2**22
"""Logits held at once while effects are measured: few enough to stay in the processor's cache."""
_FEWEST_ROWS, _SUMMED = 32, 2048


@dataclass(frozen=True)
class SkipEffects:
    """How much the next-token distribution changes with each component left out, at every position.

    Attributes:
        components: what was left out, in order.
        kl: KL(clean || without the component) in nats; NaN at padding.
        flip: whether the most likely next token changes; False at padding.
        percentile: share (0 to 100) of the positions of all components of the same kind in the same layer whose KL is
            smaller, ties counted half; NaN at padding.
        tokens: the ids that change most, by ``|change of log-probability| * sqrt(p * p')``.
        token_weight: that weight, with the sign of the change that leaving out makes: negative for a token that the
            component promotes.
        clean_top: the most likely next token of the clean run.
        skipped_top: the most likely next token without the component.
        everywhere: whether the component was left out at all positions at once instead of one.
        target_change: change of the log-probability (nats) of the targets that were asked for, negative where the
            component helps them; None when none were.
    """

    components: tuple[Component, ...]
    kl: Float[Tensor, "component batch pos"]
    flip: Bool[Tensor, "component batch pos"]
    percentile: Float[Tensor, "component batch pos"]
    tokens: Int[Tensor, "component batch pos k"]
    token_weight: Float[Tensor, "component batch pos k"]
    clean_top: Int[Tensor, "batch pos"]
    skipped_top: Int[Tensor, "component batch pos"]
    everywhere: bool
    target_change: Float[Tensor, "component batch pos"] | None = None

    def only(self, columns: Sequence[int]) -> "SkipEffects":
        """The same at some columns; percentiles stay those among all of them."""
        own = list(columns)
        cut = {name: getattr(self, name)[:, :, own] for name in ("kl", "flip", "percentile", "tokens", "token_weight",
                                                                 "skipped_top")}  # fmt: skip
        change = None if self.target_change is None else self.target_change[:, :, own]
        return replace(self, **cut, clean_top=self.clean_top[:, own], target_change=change)

    def __getitem__(self, component: Any) -> Float[Tensor, "batch pos"]:
        """KL of one component, given as a ``Component``, a ``Site`` or text."""
        names = [str(own) for own in self.components]
        if str(component) not in names:
            raise InputError(f"no effect of {str(component)!r} was computed; there are {', '.join(names)}")
        return self.kl[names.index(str(component))]


def skip_logits(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    component: Any,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    *,
    replacement: Float[Tensor, "..."] | None = None,
    everywhere: bool = False,
) -> Float[Tensor, "batch pos vocab"]:
    """Logits of every position with a component left out at that position only.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode; it is left as found.
        tokens: token ids.
        component: a writing ``Site`` (block, attention, MLP, head, span of residual states) or its text. A head is
            left out by zeroing its ``hook_z``, so a norm after the attention (Gemma 2/3, OLMo 2) is computed anew.
        attention_mask: 1 for tokens, 0 for padding. Logits at padding mean nothing.
        replacement: what the component writes instead of nothing, broadcasting to ``[batch, pos, d_model]``: its mean
            write for mean ablation, writes of other positions for resampling.
        everywhere: leave it out at all positions at once, so that later positions see the changed earlier ones.

    Returns:
        ``[batch, pos, vocab]``, equal to the one-at-a-time computation up to rounding.

    Raises:
        InputError: the component does not exist, the input cannot be used, or the architecture does not permit an
            exact computation.
    """
    part = as_component(component, model)
    with lock_of(model):
        clean = _prepared(model, tokens, attention_mask, everywhere, [part])
        _check_replacement(replacement, part, clean)
        columns = list(range(tokens.shape[1]))
        written = {} if replacement is None else {part: replacement}
        _, last = next(last_states(model, clean, [part], written, Way(everywhere, columns)))
        return read_out_of(model, clean).logits(last[0])


def skip_effects(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    components: Iterable[Any] | None = None,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    *,
    replacements: Mapping[Any, Tensor] | None = None,
    everywhere: bool = False,
    top_k: int = 5,
    chunk: int | None = None,
    targets: Int[Tensor, "batch pos"] | None = None,
    positions: Sequence[int] | None = None,
) -> SkipEffects:
    """Measure the effect of leaving out each of several components, at every position or at some.

    Logits live for one component and a slice of positions at a time. Where a model's attention can be shown the clean
    past at every position, all positions take one pass; on other models each position takes a pass of its own.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode; it is left as found.
        tokens: token ids.
        components: writing sites or their texts; None for all blocks.
        attention_mask: 1 for tokens, 0 for padding.
        replacements: for some components what they write instead of nothing (see ``skip_logits``), by site or text.
        everywhere: leave each out at all positions at once.
        top_k: how many changed tokens to keep for each position.
        chunk: how many components run side by side; None to choose from the sizes.
        targets: token ids whose log-probability is followed at every position.
        positions: columns at which effects are wanted; all of them when ``None``. Elsewhere they are NaN.

    Returns:
        The effects, in the order of the components.

    Raises:
        InputError: as ``skip_logits``; also a replacement for a component that is not left out.
    """
    parts = all_components(model) if components is None else [as_component(site, model) for site in components]
    if not parts:
        raise InputError("no component to leave out was given")
    written = {as_component(site, model): value for site, value in (replacements or {}).items()}
    if strangers := [str(part) for part in written if part not in parts]:
        raise InputError(f"replacements name {', '.join(strangers)}, which are not among the components left out")
    if not 1 <= top_k <= model.cfg.d_vocab:
        raise InputError(f"top_k must be between 1 and the vocabulary size {model.cfg.d_vocab}; found {top_k}")
    followed = None if targets is None else predicted_ids(model, targets, "targets")
    if followed is not None and followed.shape != tokens.shape:
        raise InputError(f"targets must have the tokens' shape {tuple(tokens.shape)}; found {tuple(followed.shape)}")
    wanted = Wanted(parts, Way(everywhere, _columns(positions, tokens.shape[1]), chunk), followed, top_k, written)
    with lock_of(model):
        return effects_of_run(model, capture(model, tokens, attention_mask, solve=not everywhere), wanted)


@dataclass(frozen=True)
class Wanted:
    """What is asked of components that are left out; as the arguments of :func:`skip_effects`, checked.

    Columns are counted among those that the run was kept at; with a ``top_k`` of 0 no changed tokens are told.
    """

    parts: list[Component]
    way: Way
    targets: Int[Tensor, "batch pos"] | None
    top_k: int
    written: Mapping[Component, Tensor] = field(default_factory=dict)


def effects_of_run(
    model: Any, clean: CleanRun, wanted: Wanted, tell: Callable[[int, int], None] | None = None
) -> SkipEffects:
    """The same for a run that was captured before, with its score diagonals unless ``everywhere`` is asked for.

    Args:
        model: the model that was run; the caller holds its lock.
        clean: the run.
        wanted: what is asked for.
        tell: told how many of how many components are done.

    Raises:
        InputError: as :func:`skip_logits`.
    """
    parts, columns = wanted.parts, list(wanted.way.columns)
    _check_run(model, clean, wanted.way.everywhere, parts)
    for part, value in wanted.written.items():
        _check_replacement(value, part, clean)
    given = torch.zeros_like(clean.tokens) if wanted.targets is None else wanted.targets.to(clean.tokens.device)
    groups = _counted(last_states(model, clean, parts, wanted.written, wanted.way), len(parts), tell)
    followed = _Followed(len(parts), columns, given)
    found = _measure(read_out_of(model, clean), clean, groups, wanted.top_k, followed)
    kl, top, ids, weights, change = (found[name] for name in ("kl", "top", "ids", "weights", "change"))
    shown = torch.zeros_like(clean.valid)
    shown[:, columns] = clean.valid[:, columns]
    moved = None if wanted.targets is None else change.masked_fill(~shown, float("nan"))
    clean_top = clean.logits.argmax(-1)
    flip = (top != clean_top) & shown
    kl = kl.masked_fill(~shown, float("nan"))
    return SkipEffects(
        tuple(parts), kl, flip, _percentiles(parts, kl), ids, weights, clean_top, top, wanted.way.everywhere, moved
    )


def _counted(groups: Iterable[Group], total: int, tell: Callable[[int, int], None] | None) -> Iterator[Group]:
    done = 0
    for group in groups:
        yield group
        done = min(total, done + len(group[0]))
        if tell is not None:
            tell(done, total)


def _columns(positions: Sequence[int] | None, length: int) -> list[int]:
    if positions is None:
        return list(range(length))
    columns = sorted({int(position) % length if -length <= position < length else length for position in positions})
    if not columns or columns[-1] >= length:
        raise InputError(f"positions must be columns of the {length} tokens; found {list(positions)}")
    return columns


@dataclass(frozen=True)
class _Followed:
    """How many components there are, the columns at which their effect is wanted, and the target of each column."""

    components: int
    columns: Sequence[int]
    targets: Int[Tensor, "batch pos"]


def _prepared(
    model: Any, tokens: Tensor, attention_mask: Tensor | None, everywhere: bool, parts: Sequence[Component]
) -> CleanRun:
    clean = capture(model, tokens, attention_mask, solve=not everywhere)
    _check_run(model, clean, everywhere, parts)
    return clean


def _check_run(model: Any, clean: CleanRun, everywhere: bool, parts: Sequence[Component]) -> None:
    read_out_of(model, clean)  # refused before anything else is tried
    check_writable(model, clean, parts)
    if not everywhere:
        check_causal(model, clean)


def _check_replacement(replacement: Tensor | None, part: Component, clean: CleanRun) -> None:
    if replacement is None:
        return
    shape = clean.inputs[-1].shape
    try:
        fits = torch.broadcast_shapes(replacement.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits or replacement.ndim == 0:
        raise InputError(
            f"the replacement for {part} has shape {tuple(replacement.shape)}, which does not broadcast to "
            f"[batch, pos, d_model] = {tuple(shape)}"
        )
    if not bool(torch.isfinite(replacement).all()):
        raise InputError(f"the replacement for {part} contains NaN or infinite values")


def _measure(
    readout: ReadOut, clean: CleanRun, groups: Iterable[Group], top_k: int, followed: _Followed
) -> dict[str, Tensor]:
    """KL, top token, most changed tokens with their signed weights, and the targets' change, of every component."""
    count, shape, device = followed.components, clean.valid.shape, clean.logits.device
    found = {
        "kl": torch.zeros(count, *shape, device=device), "change": torch.zeros(count, *shape, device=device),
        "top": torch.zeros(count, *shape, dtype=torch.long, device=device),
        "ids": torch.zeros(count, *shape, top_k, dtype=torch.long, device=device),
        "weights": torch.zeros(count, *shape, top_k, device=device),
    }  # fmt: skip
    batch, vocab = clean.logits.shape[0], clean.logits.shape[-1]
    rows = max(_FEWEST_ROWS // batch, VOCAB_BUDGET // (batch * vocab), 1)
    for members, states in groups:
        for first in range(0, len(followed.columns), rows):
            own = list(followed.columns[first : first + rows])
            old = _Old.of(clean.logits[:, own].float(), followed.targets[:, own])
            step = max(1, rows // len(own))
            for begin in range(0, len(members), step):
                some = torch.tensor(members[begin : begin + step], device=device)
                part = states[begin : begin + step, :, first : first + rows]
                # The read-out gives tensors that nobody else holds.
                make = lambda part=part: readout.logits(part).float().to(device)  # noqa: E731
                for name, value in _compare(old, make, top_k).items():
                    found[name][some[:, None, None], torch.arange(batch, device=device)[:, None], own] = value
    return found


@dataclass(frozen=True)
class _Old:
    """The clean prediction of some columns."""

    logits: Float[Tensor, "batch column vocab"]
    log_p: Float[Tensor, "batch column vocab"]
    p: Float[Tensor, "batch column vocab"]
    targets: Int[Tensor, "batch column"]

    @classmethod
    def of(cls, logits: Float[Tensor, "batch column vocab"], targets: Int[Tensor, "batch column"]) -> "_Old":
        """Of the clean logits."""
        return cls(logits, torch.log_softmax(logits, -1), torch.softmax(logits, -1), targets)

    def mean(self, values: Float[Tensor, "component batch column vocab"]) -> Float[Tensor, "component batch column"]:
        """What is expected of values under the clean prediction, added up in pieces: long sums lose digits."""
        with unmixed(values):
            pieces = zip(values.split(_SUMMED, -1), self.p.split(_SUMMED, -1), strict=True)
            return torch.stack([torch.einsum("mbcv,bcv->mbc", value, p) for value, p in pieces]).sum(0)


def _compare(old: _Old, make: Callable[[], Tensor], top_k: int) -> dict[str, Tensor]:
    """Compare changed logits, which ``make`` makes anew, with the clean prediction ``p``.

    With ``c`` the change of the logits less its mean under ``p``, KL is ``log E[exp(c)]`` under ``p``. That is as exact
    for a small change as for a large one, and takes few passes over the vocabulary.
    """
    logits = make()
    top = logits.argmax(-1)
    change = logits.sub_(old.logits)
    told = old.targets[None, ..., None].expand(*change.shape[:-1], 1)
    mean = old.mean(change)[..., None]
    change = change.sub_(mean)
    of_target, kept = change.gather(-1, told)[..., 0], change.clone() if top_k else None
    kl = old.mean(change.expm1_()).log1p()
    if not bool(kl.isfinite().all()):  # too large for an exponential
        kl = torch.logsumexp(make() - old.logits - mean + old.log_p, -1)
    found = {"kl": kl.clamp(min=0), "top": top, "change": of_target - kl}
    if kept is not None:
        moved = kept.sub_(kl[..., None])
        # sqrt(p * p') through the logarithms: products of small probabilities underflow.
        weight = moved.abs() * (old.log_p + moved / 2).exp()
        found["ids"] = weight.topk(top_k, dim=-1).indices
        found["weights"] = weight.gather(-1, found["ids"]) * moved.gather(-1, found["ids"]).sign()
    return found


def _percentiles(parts: list[Component], kl: Float[Tensor, "component batch pos"]) -> Tensor:
    out = torch.full_like(kl, float("nan"))
    groups: dict[tuple[str, int, int], list[int]] = {}
    for i, part in enumerate(parts):
        groups.setdefault((part.kind, part.layer, part.last), []).append(i)
    for members in groups.values():
        values = kl[members]
        known = ~values.isnan()
        if not bool(known.any()):
            continue
        pool = values[known].sort().values
        below, upto = (torch.searchsorted(pool, values[known], right=side) for side in (False, True))
        values[known] = 100.0 * (below + upto).to(values.dtype) / (2 * len(pool))
        out[members] = values
    return out
