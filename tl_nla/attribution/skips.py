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

from tl_nla.amounts import check_count
from tl_nla.attribution.capture import capture
from tl_nla.attribution.clean_run import CleanRun
from tl_nla.attribution.components import Component, all_components, as_component
from tl_nla.attribution.exactness import check_causal, check_writable
from tl_nla.attribution.left_out import Group, Way, last_states
from tl_nla.attribution.readout import read_out_of
from tl_nla.attribution.skip_measures import Followed, measure, percentiles
from tl_nla.errors import InputError
from tl_nla.model.predicted import predicted_ids
from tl_nla.model.probe import lock_of


@dataclass(frozen=True)
class SkipEffects:
    """How much the next-token distribution changes with each component left out, at every position.

    Attributes:
        components: what was left out, in order.
        kl: KL(clean || without the component) in nats; NaN at padding.
        flip: whether the most likely next token changes; False at padding.
        percentile: share (0 to 100) of the positions of all components of the same kind in the same layer whose KL is
            smaller, ties counted half. NaN at padding.
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


@dataclass(frozen=True)
class SkipConfig:
    """How components are left out, and how much is told of it.

    Attributes:
        replacements: for some components what they write instead of nothing (see :func:`skip_logits`), by site or text.
        everywhere: leave each out at all positions at once, so that later positions see the changed earlier ones.
        top_k: how many changed tokens to keep for each position.
        chunk: how many components run side by side; None to choose from the sizes.

    Raises:
        InputError: for a number below 1.
    """

    replacements: Mapping[Any, Tensor] | None = None
    everywhere: bool = False
    top_k: int = 5
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_count("top_k", self.top_k)
        if self.chunk is not None:
            check_count("chunk", self.chunk)


def skip_effects(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    components: Iterable[Any] | None = None,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    *,
    targets: Int[Tensor, "batch pos"] | None = None,
    positions: Sequence[int] | None = None,
    how: SkipConfig | None = None,
) -> SkipEffects:
    """Measure the effect of leaving out each of several components, at every position or at some.

    Logits live for one component and a slice of positions at a time. Where a model's attention can be shown the clean
    past at every position, all positions take one pass. On other models each position takes a pass of its own.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode; it is left as found.
        tokens: token ids.
        components: writing sites or their texts; None for all blocks.
        attention_mask: 1 for tokens, 0 for padding.
        targets: token ids whose log-probability is followed at every position.
        positions: columns at which effects are wanted; all of them when ``None``. Elsewhere they are NaN.
        how: what is written instead, where, and how many changed tokens are told.

    Returns:
        The effects, in the order of the components.

    Raises:
        InputError: as ``skip_logits``; also a replacement for a component that is not left out.

    Example:
        ``skip_effects(model, tokens, ["blocks.2.mlp"], positions=[-1], how=SkipConfig(top_k=8))["blocks.2.mlp"]``
    """
    how = how or SkipConfig()
    parts = all_components(model) if components is None else [as_component(site, model) for site in components]
    if not parts:
        raise InputError("no component to leave out was given")
    written = {as_component(site, model): value for site, value in (how.replacements or {}).items()}
    if strangers := [str(part) for part in written if part not in parts]:
        raise InputError(f"replacements name {', '.join(strangers)}, which are not among the components left out")
    if how.top_k > model.cfg.d_vocab:
        raise InputError(f"top_k is {how.top_k}; it must be between 1 and the vocabulary size {model.cfg.d_vocab}")
    followed = None if targets is None else predicted_ids(model, targets, "targets")
    if followed is not None and followed.shape != tokens.shape:
        raise InputError(f"targets must have the tokens' shape {tuple(tokens.shape)}; found {tuple(followed.shape)}")
    way = Way(how.everywhere, _columns(positions, tokens.shape[1]), how.chunk)
    with lock_of(model):
        clean = capture(model, tokens, attention_mask, solve=not how.everywhere)
        return effects_of_run(model, clean, Wanted(parts, way, followed, how.top_k, written))


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
    followed = Followed(len(parts), columns, given)
    found = measure(read_out_of(model, clean), clean, groups, wanted.top_k, followed)
    kl, top, ids, weights, change = (found[name] for name in ("kl", "top", "ids", "weights", "change"))
    shown = torch.zeros_like(clean.valid)
    shown[:, columns] = clean.valid[:, columns]
    moved = None if wanted.targets is None else change.masked_fill(~shown, float("nan"))
    clean_top = clean.logits.argmax(-1)
    flip = (top != clean_top) & shown
    kl = kl.masked_fill(~shown, float("nan"))
    return SkipEffects(
        tuple(parts), kl, flip, percentiles(parts, kl), ids, weights, clean_top, top, wanted.way.everywhere, moved
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
