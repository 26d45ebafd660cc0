"""One clean forward pass that keeps what a later replay of single blocks needs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tl_nla.attribution.diagonal import SOURCES, ScoreDiagonal, solve_diagonal
from tl_nla.errors import InputError
from tl_nla.model.facts import ModelFacts, check_deterministic, facts_of, fingerprint
from tl_nla.model.heads import out_projection
from tl_nla.model.hooks import module_point
from tl_nla.model.probe import lock_of
from tl_nla.model.reading import check_tokens

_STREAM = ("hook_resid_pre", "hook_resid_post")


@dataclass(frozen=True)
class BlockCall:
    """How the model called one of its blocks, without the residual stream and without a key-value cache."""

    block: nn.Module
    args: tuple
    kwargs: dict[str, Any]
    keyword: str | None  # the residual stream's argument name when it was passed by name

    def __call__(self, residual: Float[Tensor, "row pos d_model"], copies: int, batch: int) -> Tensor:
        """Run the block on ``copies`` stacked copies of the batch."""
        args, kwargs = _stack_rows(self.args, copies, batch), _stack_rows(self.kwargs, copies, batch)
        if self.keyword is None:
            out = self.block(residual, *args, **kwargs)
        else:
            out = self.block(*args, **{self.keyword: residual}, **kwargs)
        return out[0] if isinstance(out, tuple | list) else out


@dataclass
class CleanRun:
    """The tensors of one ordinary forward pass, by layer.

    Attributes:
        points: the model's hook points by name.
        calls: how each block was called.
        inputs: the residual stream handed to each block, and after the last one, ``[batch, pos, d_model]``.
        kept: tensors by full hook point name.
        diagonals: the formula of each layer's scores on the diagonal; None where no formula was found.
        logits: the model's output.
        valid: the positions that are no padding.
        tokens: what was run.
        mask: its attention mask, if there was one.
        state: what may not change where something proved on this run is to hold for another one.
    """

    points: dict[str, Any]
    calls: list[BlockCall]
    inputs: list[Float[Tensor, "batch pos d_model"]]
    kept: dict[str, Tensor]
    diagonals: list[ScoreDiagonal | None]
    logits: Float[Tensor, "batch pos vocab"]
    valid: Bool[Tensor, "batch pos"]
    tokens: Int[Tensor, "batch pos"]
    mask: Tensor | None = None
    state: Any = None

    @property
    def batch(self) -> int:
        """Rows of the batch."""
        return self.logits.shape[0]

    def at(self, layer: int, name: str) -> Tensor:
        """The tensor seen at ``blocks.{layer}.{name}``."""
        return self.kept[f"blocks.{layer}.{name}"]


@contextmanager
def hooked(pairs: Sequence[tuple[Any, Callable[..., Tensor | None]]]) -> Iterator[None]:
    """Put functions on hook points (the objects, not their names) and take exactly these off again."""
    done: list[tuple[Any, Any]] = []
    try:
        for point, function in pairs:
            before = {id(handle) for handle in point.fwd_hooks}
            point.add_hook(function)
            done += [(point, handle) for handle in point.fwd_hooks if id(handle) not in before]
        yield
    finally:
        for point, handle in done:
            handle.hook.remove()
            point.fwd_hooks = [other for other in point.fwd_hooks if other is not handle]


def capture(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    solve: bool = True,
    heads: bool = True,
) -> CleanRun:
    """Run the model once and keep, per block, its call, its parts' writes, keys, values and score diagonals.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode.
        tokens: token ids.
        attention_mask: 1 for tokens, 0 for padding; None when nothing is padded.
        solve: also find each layer's formula of the score diagonal.
        heads: also keep what the heads are read from.

    Raises:
        InputError: the input or the model cannot be used; the message says why.
    """
    _check_input(model, tokens, attention_mask)
    points, facts = dict(model.hook_dict), facts_of(model)
    layers = int(model.cfg.n_layers)
    calls: list[BlockCall | None] = [None] * layers
    inputs: list[Tensor | None] = [None] * (layers + 1)
    kept: dict[str, Tensor] = {}
    names = [f"blocks.{layer}.{name}" for layer in range(layers) for name in _STREAM]
    names += [branch.point for form in facts.blocks for branch in form.branches]
    names += _inner_points(model, facts) if heads else []
    if solve:
        seen = ("attn.hook_v", "attn.hook_attn_scores", *(name for pair in SOURCES for name in pair))
        names += [f"blocks.{layer}.{name}" for layer in range(layers) for name in seen]
    places = {name: points.get(name) or module_point(model, name) for name in dict.fromkeys(names)}
    pairs = [(place, _keep(kept, name)) for name, place in places.items() if place is not None]
    with lock_of(model), torch.no_grad(), _watched(model, calls, inputs), hooked(pairs):
        logits = model(tokens) if attention_mask is None else model(tokens, attention_mask=attention_mask)
    if any(call is None for call in calls):
        raise InputError(f"{type(model).__name__} does not run its blocks one after the other: nothing can be replayed")
    stream = (*tokens.shape, int(model.cfg.d_model))
    if odd := [layer for layer, state in enumerate(inputs) if state is None or state.shape != stream]:
        raise InputError(f"what enters blocks.{odd[0]} is no single residual stream of shape {stream}")
    logits = logits if isinstance(logits, Tensor) else logits.logits
    valid = torch.ones_like(tokens, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    points |= {name: place for name, place in places.items() if place is not None}
    run = CleanRun(points, calls, inputs, kept, [None] * layers, logits, valid.to(logits.device), tokens,  # type: ignore[arg-type]
                   attention_mask, _state(model))  # fmt: skip
    if solve:
        run.diagonals = [_solve(model, run, layer) for layer in range(layers)]
    return run


@contextmanager
def _watched(model: Any, calls: list, inputs: list) -> Iterator[None]:
    """Keep how each block is called, what enters it, and what the last one gives."""
    watchers = []
    try:
        for layer, block in enumerate(model.blocks):
            watchers.append(block.register_forward_pre_hook(_keep_call(calls, inputs, layer), with_kwargs=True))
        last = len(calls) - 1
        watchers.append(model.blocks[last].register_forward_hook(_keep_output(inputs, last + 1)))
        yield
    finally:
        for watcher in watchers:
            watcher.remove()


def _state(model: Any) -> tuple[Any, ...]:
    """Precision, place and mode of a model, and the hooks in its blocks: each of them changes how it can be rerun."""
    hooks = tuple(
        (name, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.blocks.named_modules()
        if module._forward_hooks or module._forward_pre_hooks
    )
    return fingerprint(model), hooks


def _check_input(model: Any, tokens: Tensor, attention_mask: Tensor | None) -> None:
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.is_floating_point() or not tokens.numel():
        found = f"{tuple(tokens.shape)} of {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InputError(f"tokens must be a non-empty integer tensor [batch, pos]; found {found}")
    if attention_mask is not None and attention_mask.shape != tokens.shape:
        raise InputError(
            f"attention_mask must have the shape of the tokens {tuple(tokens.shape)}; "
            f"found {tuple(attention_mask.shape)}"
        )
    if attention_mask is not None and not bool(attention_mask.bool().any(-1).all()):
        raise InputError("attention_mask leaves a row without any token; drop that row")
    check_deterministic(model)
    check_tokens(model, tokens)


def _inner_points(model: Any, facts: ModelFacts) -> list[str]:
    """Where the heads of each layer are seen, as far as it has any."""
    found = []
    for form in facts.blocks:
        for kind in ("attn", "mixer"):
            if kind in form.kinds:
                with suppress(InputError):
                    found.append(out_projection(model, form.layer, kind).point)
    return found


def _keep(kept: dict[str, Tensor], name: str) -> Callable[..., None]:
    diagonal = name.endswith("hook_attn_scores")

    def function(value: Tensor, hook: Any) -> None:
        # Whole score matrices would cost more memory than everything else together.
        # The others are copied: some families go on to change their tensors in place.
        kept[name] = torch.diagonal(value, dim1=-2, dim2=-1).clone() if diagonal else value.detach().clone()

    return function


def _keep_call(calls: list, inputs: list, layer: int) -> Callable[..., None]:
    def function(block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        keyword = None
        kwargs = {name: _without_cache(name, value) for name, value in kwargs.items()}
        if args and isinstance(args[0], Tensor):
            residual, args = args[0], args[1:]
        else:
            keyword = next(name for name, value in kwargs.items() if isinstance(value, Tensor) and value.ndim == 3)
            residual = kwargs.pop(keyword)
        inputs[layer] = residual.detach().clone()
        calls[layer] = BlockCall(block, tuple(_without_cache("", value) for value in args), kwargs, keyword)

    return function


def _keep_output(inputs: list, layers: int) -> Callable[..., None]:
    def function(block: nn.Module, args: tuple, output: Any) -> None:
        inputs[layers] = (output[0] if isinstance(output, tuple | list) else output).detach().clone()

    return function


def _without_cache(name: str, value: Any) -> Any:
    if name == "use_cache":
        return False
    return None if hasattr(value, "get_seq_length") else value


def _stack_rows(value: Any, copies: int, batch: int) -> Any:
    """Repeat every tensor that has the batch as its first axis; the others broadcast."""
    if copies == 1 or batch == 1:
        return value
    if isinstance(value, Tensor):
        return value.repeat(copies, *[1] * (value.ndim - 1)) if value.ndim > 1 and len(value) == batch else value
    if isinstance(value, tuple | list):
        return type(value)(_stack_rows(item, copies, batch) for item in value)
    if isinstance(value, dict):
        return {key: _stack_rows(item, copies, batch) for key, item in value.items()}
    return value


def _solve(model: Any, run: CleanRun, layer: int) -> ScoreDiagonal | None:
    prefix = f"blocks.{layer}."
    scores = run.kept.pop(prefix + "attn.hook_attn_scores", None)
    if scores is None:
        return None
    seen = {name: run.kept[prefix + name] for pair in SOURCES for name in pair if prefix + name in run.kept}
    heads = int(model.cfg.n_heads)
    groups = int(getattr(model.cfg, "n_key_value_heads", None) or heads)
    if any(not isinstance(value, Tensor) for value in seen.values()):
        return None
    attention = getattr(model.blocks[layer], "attn", None)
    original = getattr(attention, "original_component", None)
    caps = {getattr(model.cfg, "attn_scores_soft_cap", None), getattr(original, "attn_logit_softcapping", None)}
    soft = [float(cap) for cap in caps if cap is not None and cap > 0]
    found = solve_diagonal(seen, scores, (heads, groups), [*soft, None], run.valid)
    for name in seen:  # of all the sources only the key that is given back is needed again
        if found is None or name != found.key_point:
            del run.kept[prefix + name]
    return found
