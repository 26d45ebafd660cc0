"""One clean forward pass that keeps what a later replay of single blocks needs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from tl_nla.attribution.clean_run import BlockCall, CleanRun, hooked
from tl_nla.attribution.diagonal import SOURCES, ScoreDiagonal, solve_diagonal
from tl_nla.errors import InputError
from tl_nla.model.facts import ModelFacts, check_deterministic, facts_of, fingerprint
from tl_nla.model.heads import out_projection
from tl_nla.model.hooks import HookFunction, HookPair, module_point
from tl_nla.model.narrow import narrowed
from tl_nla.model.probe import lock_of
from tl_nla.model.reading import check_tokens

_STREAM = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")
_ENDS = 8
"""Positions at which the last state and the logits are kept in any case: the read-out is solved on them."""


def capture(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    solve: bool = True,
    heads: bool = True,
    columns: Sequence[int] | None = None,
    also: Sequence[HookPair] = (),
) -> CleanRun:
    """Run the model once and keep, per block, its call, its parts' writes, keys, values and score diagonals.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode.
        tokens: token ids.
        attention_mask: 1 for tokens, 0 for padding; None when nothing is padded.
        solve: also find each layer's formula of the score diagonal; needs all columns.
        heads: also keep what the heads are read from.
        columns: keep these columns only (and the keys and values of all); every column when ``None``.
        also: hook names and functions that watch the same pass.

    Raises:
        InputError: the input or the model cannot be used; the message says why.
    """
    _check_input(model, tokens, attention_mask)
    own = None if columns is None else [int(column) for column in columns]
    solve = solve and own is None
    points, facts = dict(model.hook_dict), facts_of(model)
    layers = int(model.cfg.n_layers)
    store = _Store([None] * layers, [None] * (layers + 1), {}, {}, own)
    names = _names(model, facts, solve, heads)
    places = {name: points.get(name) or module_point(model, name) for name in (*names, *(name for name, _ in also))}
    pairs: list[tuple[Any, HookFunction]] = [(places[name], store.keep(name)) for name in names]
    pairs += [(places[name], function) for name, function in also]
    asked = _Asked(tokens, own)
    with lock_of(model), torch.no_grad(), store.watched(model), asked.alone(model) as alone, \
            hooked([pair for pair in pairs if pair[0] is not None]):  # fmt: skip
        found = model(tokens) if attention_mask is None else model(tokens, attention_mask=attention_mask)
    calls, inputs = store.calls, store.inputs
    if any(call is None for call in calls):
        raise InputError(f"{type(model).__name__} does not run its blocks one after the other: nothing can be replayed")
    stream = (len(tokens), tokens.shape[1] if own is None else len(own), int(model.cfg.d_model))
    if odd := [layer for layer, state in enumerate(inputs) if state is None or state.shape != stream]:
        raise InputError(f"what enters blocks.{odd[0]} is no single residual stream of shape {stream}")
    logits, end = asked.of(found if isinstance(found, Tensor) else found.logits, alone)
    valid = torch.ones_like(tokens, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    points |= {name: place for name, place in places.items() if place is not None}
    run = CleanRun(
        points, calls, inputs, store.kept, [None] * layers, logits,  # type: ignore[arg-type]
        valid.to(logits.device) if own is None else valid[:, own].to(logits.device),
        tokens if own is None else tokens[:, own], attention_mask, state_of(model), None if own is None else tuple(own),
        tokens.shape[1], store.keys if len(store.keys) == layers else {},
        None if store.end is None else (store.end, end),
    )  # fmt: skip
    if solve:
        run.diagonals = [_solve(model, run, layer) for layer in range(layers)]
    return run


@dataclass(frozen=True)
class _Asked:
    """The columns whose logits a run keeps (all of them when ``None``), and the last ones."""

    tokens: Int[Tensor, "batch pos"]
    columns: list[int] | None

    @property
    def _places(self) -> list[int]:
        length = self.tokens.shape[1]
        return sorted({*(self.columns or ()), *range(max(0, length - _ENDS), length)})

    def alone(self, model: Any) -> Any:
        """A context in which no other logits are computed, as far as that goes unseen; it tells whether."""
        if self.columns is None:
            return nullcontext(False)
        chosen = torch.zeros_like(self.tokens, dtype=torch.bool)
        chosen[:, self._places] = True
        return narrowed(model, chosen)

    def of(self, logits: Tensor, alone: bool) -> tuple[Tensor, Tensor]:
        """Logits of the columns, and those of the last ones."""
        if self.columns is None:
            return logits, logits[:, -_ENDS:].clone()
        places = self._places
        some = logits[0].unflatten(0, (len(self.tokens), len(places))) if alone else logits[:, places]
        return some[:, [places.index(column) for column in self.columns]], some[:, -_ENDS:].clone()


def _names(model: Any, facts: ModelFacts, solve: bool, heads: bool) -> list[str]:
    """The points that are kept."""
    layers = range(len(facts.blocks))
    names = [f"blocks.{layer}.{name}" for layer in layers for name in _STREAM]
    names += [branch.point for form in facts.blocks for branch in form.branches]
    names += _inner_points(model, facts) if heads else []
    if solve:
        seen = ("attn.hook_v", "attn.hook_attn_scores", *(name for pair in SOURCES for name in pair))
        names += [f"blocks.{layer}.{name}" for layer in layers for name in seen]
    return list(dict.fromkeys(names))


@dataclass
class _Store:
    """What is kept while the model runs."""

    calls: list[BlockCall | None]
    inputs: list[Tensor | None]
    kept: dict[str, Tensor]
    keys: dict[int, tuple[Tensor, Tensor]]
    columns: list[int] | None
    end: Tensor | None = None
    caches: list[Any] = field(default_factory=list)

    @contextmanager
    def watched(self, model: Any) -> Iterator[None]:
        """Keep how each block is called, what enters it, and what the last one gives."""
        watchers = []
        try:
            for layer, block in enumerate(model.blocks):
                watchers.append(block.register_forward_pre_hook(self._call_keeper(layer), with_kwargs=True))
            watchers.append(model.blocks[len(self.calls) - 1].register_forward_hook(self._keep_output))
            yield
        finally:
            for watcher in watchers:
                watcher.remove()
            for cache in self.caches:  # the function holds the cache, and the cache the function
                del cache.update
            self.caches.clear()

    def _record(self, cache: Any) -> None:
        """Have a cache that the model made for this run note the keys and values that it is given."""
        update = getattr(cache, "update", None)
        if update is None or any(cache is known for known in self.caches) or "update" in vars(cache):
            return

        def recorded(key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> Any:
            given = update(key, value, layer, *args, **kwargs)
            # A cache that keeps what it gives back is not kept twice.
            kept = given if all(a.shape == b.shape for a, b in zip(given, (key, value), strict=True)) else (key, value)
            self.keys[layer] = kept[0].detach(), kept[1].detach()
            return given

        cache.update = recorded
        self.caches.append(cache)

    def keep(self, name: str) -> Callable[..., None]:
        """A hook that keeps what passes a point."""
        diagonal, stream = name.endswith("hook_attn_scores"), name.endswith(_STREAM)

        def function(value: Tensor, hook: Any) -> None:
            # Whole score matrices would cost more memory than everything else together.
            # The others are copied: some families go on to change their tensors in place.
            if diagonal:
                self.kept[name] = torch.diagonal(value, dim1=-2, dim2=-1).clone()
                return
            new = value.detach()
            new = new if self.columns is None or new.ndim < 2 else new[:, self.columns]
            entered = self.inputs[int(name.split(".")[1])] if stream else None
            self.kept[name] = _same_or_copy(new, entered)

        return function

    def _call_keeper(self, layer: int) -> Callable[..., None]:
        def function(block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            keyword = None
            held = [*((i, value) for i, value in enumerate(args)), *kwargs.items()]
            caches = [(place, value) for place, value in held if hasattr(value, "get_seq_length")]
            for _, value in caches:
                self._record(value)
            kwargs = {name: _without_cache(name, value) for name, value in kwargs.items()}
            shifted = bool(args) and isinstance(args[0], Tensor)
            if shifted:
                residual, args = args[0], args[1:]
            else:
                keyword = next(name for name, value in kwargs.items() if isinstance(value, Tensor) and value.ndim == 3)
                residual = kwargs.pop(keyword)
            given = tuple(_without_cache("", value) for value in args)
            cache: Any = caches[0][0] if caches else None
            cache = cache - shifted if isinstance(cache, int) else cache
            self.inputs[layer] = self._state(residual, self.kept.get(f"blocks.{layer - 1}.hook_resid_post"))
            self.calls[layer] = BlockCall(block, given, kwargs, keyword, cache)

        return function

    def _keep_output(self, block: nn.Module, args: tuple, output: Any) -> None:
        whole = (output[0] if isinstance(output, tuple | list) else output).detach()
        self.end = whole[:, -_ENDS:].clone()
        last = len(self.calls)
        self.inputs[last] = self._state(whole, self.kept.get(f"blocks.{last - 1}.hook_resid_post"))

    def _state(self, residual: Tensor, given: Tensor | None) -> Tensor:
        state = residual.detach()
        # Several streams in one tensor (Gemma 3n) have no columns here; the run is refused afterwards.
        whole = self.columns is None or state.ndim != len(("batch", "pos", "d_model"))
        return _same_or_copy(state if whole else state[:, self.columns], given)


def _same_or_copy(new: Tensor, known: Tensor | None) -> Tensor:
    """A copy, or what was kept already where it is the same."""
    alike = known is not None and (known.shape, known.dtype, known.device) == (new.shape, new.dtype, new.device)
    return known if known is not None and alike and torch.equal(known, new) else new.clone()


def state_of(model: Any) -> tuple[Any, ...]:
    """Precision, place and mode of a model, and the hooks in its blocks: each of them changes how it can be rerun."""
    hooks = tuple(
        (name, *counts) for name, module in model.blocks.named_modules() if any(counts := _hooks_of_others(module))
    )
    return fingerprint(model), hooks


def watched(state: Any) -> bool:
    """Whether hooks of the user's are in the blocks of a model whose :func:`state_of` this is."""
    return bool(state[1])


_LIBRARIES = ("transformers.", "transformer_lens.")


def _hooks_of_others(module: nn.Module) -> tuple[int, int]:
    """How many hooks a module has behind and before it, without those that its own library put there to watch.

    Bridges watch their norms, and transformers leaves hooks on every block and attention once it was asked for
    attention patterns, as ``run_with_cache`` does. A hook point's functions are wrapped by TransformerLens, so all of
    them count.
    """
    held = (module._forward_hooks, module._forward_pre_hooks)
    if isinstance(module, HookPoint):
        return len(held[0]), len(held[1])
    behind, before = (
        sum(not str(getattr(hook, "__module__", "")).startswith(_LIBRARIES) for hook in own.values()) for own in held
    )
    return behind, before


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


def _without_cache(name: str, value: Any) -> Any:
    if name == "use_cache":
        return False
    return None if hasattr(value, "get_seq_length") else value


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
