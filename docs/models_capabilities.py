"""What docs/models.md asks of each model, each with a second computation to compare with, mostly by plain hooks."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from docs.models_measure import TOKENS, Case, Found, reason, stream_of
from tl_nla.adapters import VectorAdapter, attach
from tl_nla.attribution import SkipConfig, direct_attribution, skip_effects
from tl_nla.attribution.components import Component, all_components
from tl_nla.errors import InputError
from tl_nla.model.facts import block_form, branches_of, facts_of
from tl_nla.model.heads import out_projection
from tl_nla.model.reading import head_sum, read
from tl_nla.oracle.labels import Lens, Vocabulary, head_sources, write_effects
from tl_nla.reports import layer_contributions
from tl_nla.steering import SteeringVector

_PARTS = ("attn", "mixer", "mlp", "ple")
_PLACE = 5  # the position of skips and steering
_STEERED = 1  # the block behind which steering is tried
_NEW = 4


def _grid(values: Tensor) -> Tensor:
    """Rows of a reading as ``[batch, pos, d]``."""
    return values.float().reshape(*TOKENS.shape, -1)


def _share(difference: Tensor, whole: Tensor) -> float:
    return (difference.float().norm(dim=-1) / whole.float().norm(dim=-1).clamp_min(1e-6)).max().item()


def _layers(case: Case) -> range:
    return range(int(case.model.cfg.n_layers))


def states(case: Case) -> Found:
    """Residual states and blocks' writes, against plain hooks on the blocks."""
    ends = ("hook_resid_pre", "hook_resid_post")
    sites = [f"blocks.{layer}{tail}" for layer in _layers(case) for tail in (*(f".{end}" for end in ends), "")]
    values, refused = _read_each(case, sites)
    errors = [0.0]
    for layer in _layers(case):
        before, after, write = (values.get(f"blocks.{layer}{tail}") for tail in (*(f".{end}" for end in ends), ""))
        if before is not None and after is not None and write is not None:
            errors.append(_share(after - before - write, after))
        if after is not None and layer + 1 in _seen(case):
            errors.append(_share(after - case.clean.states[layer + 1], after))
    told = reason(refused[0]) if refused else ""
    return Found(max(errors), values=values, unit="stream", refused=told, share=f"{len(refused)} of {len(sites)} sites")


def _read_each(case: Case, sites: list[str]) -> tuple[dict[str, Tensor], list[InputError]]:
    """All sites at once, or those that can be read, one by one."""
    try:
        reading = read(case.model, TOKENS, sites)
        return {site: _grid(reading.precise(site)) for site in sites}, []
    except InputError:
        values, refused = {}, []
    for site in sites:
        try:
            values[site] = _grid(read(case.model, TOKENS, [site]).precise(site))
        except InputError as problem:
            refused.append(problem)
    if not values:
        raise refused[0]
    return values, refused


def _seen(case: Case) -> Iterable[int]:
    """States that plain hooks show as the block gave them: RWKV halves the stream between some blocks."""
    every = getattr(getattr(case.model.original_model, "config", None), "rescale_every", 0)
    return range(len(case.clean.states)) if not every else [len(case.clean.states) - 1]


def _partly(case: Case, ask: Callable[[int], tuple[float, dict[str, Tensor]]], unit: str = "stream") -> Found:
    """Ask layer by layer; refused in all of them is refused, in some is told."""
    errors, values, refused = [], {}, []
    for layer in _layers(case):
        try:
            error, own = ask(layer)
        except InputError as problem:
            refused.append((layer, problem))
            continue
        errors.append(error)
        values |= own
    if not errors:
        raise refused[0][1]
    told = reason(refused[0][1]) if refused else ""
    share = f"{len(refused)} of {len(_layers(case))} layers"
    return Found(max(errors), values=values, unit=unit, refused=told, share=share)


def parts(case: Case) -> Found:
    """Attention, other mixers, MLP and per-layer embeddings: with the input they give the block's output."""
    model = case.model

    def ask(layer: int) -> tuple[float, dict[str, Tensor]]:
        form, name = block_form(model, layer), f"blocks.{layer}"
        own = [f"{name}.{kind}" for kind in form.kinds]
        ends = [f"{name}.hook_resid_pre", f"{name}.hook_resid_post"]
        reading = read(model, TOKENS, [*own, *ends])
        values = {site: _grid(reading.precise(site)) for site in own}
        before, after = (_grid(reading.precise(end)) for end in ends)
        return _share(form.carry * before + sum(values.values()) - after, after), values

    return _partly(case, ask)


def heads(case: Case) -> Found:
    """The heads of each attention or other mixer: with the bias they give its write."""
    model = case.model

    def ask(layer: int) -> tuple[float, dict[str, Tensor]]:
        kinds = facts_of(model).blocks[layer].kinds
        kind = "mixer" if "mixer" in kinds and "attn" not in kinds else "attn"
        branches_of(model, layer, kind)
        whole = f"blocks.{layer}.{kind}"
        sites = [f"{whole}.head.{head}" for head in range(out_projection(model, layer, kind).heads)]
        reading = read(model, TOKENS, [*sites, whole])
        values = {site: _grid(reading.precise(site)) for site in sites}
        constant = head_sum(model, layer, kind, reading.values).constant
        constant = constant.expand(len(reading), -1).reshape(*TOKENS.shape, -1)
        write = _grid(reading.precise(whole))
        error = (sum(values.values()) + constant - write).norm(dim=-1) / case.norm
        return error.max().item(), values

    return _partly(case, ask)


def direct(case: Case) -> Found:
    """Direct attribution in all three units: the parts' sum is the model's own logit."""
    shares, absolute, values, total = [0.0], [0.0], {}, None
    for unit in ("component", "layer", "head"):
        found = direct_attribution(case.model, TOKENS, case.targets, unit=unit)
        left = (found.values.sum(0) - found.total).abs()
        absolute.append(left.max().item())
        shares.append((left / case.scale).max().item())
        total = found.total
        stored = ("rounding", "bias")
        values |= {f"{unit}:{name}": found[name] for name in found.labels if name not in stored}
    cap = facts_of(case.model).readout.cap
    own = case.clean.logits
    if own is not None and total is not None:  # the total is the model's own number, not one of ours
        logits = total if cap is None else cap * torch.tanh(total / cap)
        left = (own.gather(-1, case.targets[..., None])[..., 0] - logits).abs()
        absolute.append(left.max().item())
        shares.append((left / case.scale).max().item())
    return Found(max(shares), max(absolute), values)


def skips(case: Case) -> Found:
    """Leaving each part out at one position; some of each kind against a plain run without them."""
    effects, refused = _left_out(case)
    if not effects:
        raise refused[0][1] if refused else InputError("this model has no part that could be left out")
    shares, absolute = [0.0], [0.0]
    for part in _sample(effects):
        left = (effects[part] - _plainly_without(case, part)).abs()
        absolute.append(left.max().item())
        shares.append((left / case.scale[:, _PLACE]).max().item())
    told = reason(refused[0][1]) if refused else ""
    share = ", ".join(kind for kind, _ in refused)
    return Found(max(shares), max(absolute), worst_case=True, refused=told, share=share)


def _left_out(case: Case) -> tuple[dict[Component, Tensor], list[tuple[str, InputError]]]:
    """Effects of everything at once, or kind by kind where something is refused."""

    def effects_of(components: list[Component]) -> dict[Component, Tensor]:
        how = SkipConfig(top_k=1)
        found = skip_effects(case.model, TOKENS, components, targets=case.targets, positions=[_PLACE], how=how)
        change = torch.zeros(0) if found.target_change is None else found.target_change
        return dict(zip(found.components, change[..., _PLACE], strict=True))

    kinds = ("block", *_PARTS, "head")
    try:
        return effects_of(all_components(case.model, kinds)), []
    except InputError:
        effects, refused = {}, []
    for kind in kinds:
        if known := all_components(case.model, (kind,)):
            try:
                effects |= effects_of(known)
            except InputError as problem:
                refused.append((kind, problem))
    return effects, refused


def _sample(effects: dict[Component, Tensor]) -> list[Component]:
    """The first of each kind behind block 0."""
    found: dict[tuple[str, str], Component] = {}
    for part in effects:
        if part.layer:
            found.setdefault((part.kind, part.part), part)
    return list(found.values())


@torch.no_grad()
def _plainly_without(case: Case, part: Component) -> Tensor:
    """Change of the targets' log-probability when a plain hook of torch takes the part out at one position."""
    model, layer = case.model, part.layer

    def block(module: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        entering = args[0] if args else next(iter(kwargs.values()))
        whole = output[0] if isinstance(output, tuple | list) else output
        changed = whole.clone()
        changed[:, _PLACE] = entering[:, _PLACE]
        return changed if whole is output else type(output)((changed, *output[1:]))

    def silent(value: Tensor, hook: Any) -> Tensor:
        changed = value.clone()
        changed[:, _PLACE] = 0
        return changed

    def headless(module: Any, args: tuple) -> tuple:
        projection = out_projection(model, layer, part.part)
        width = projection.width // projection.heads
        flat = args[0].reshape(*args[0].shape[:2], -1).clone()
        flat[:, _PLACE, int(part.head or 0) * width :][:, :width] = 0
        return (flat.reshape(args[0].shape), *args[1:])

    if part.kind == "block":
        handles = [model.blocks[layer].register_forward_hook(block, with_kwargs=True)]
    elif part.kind == "head":
        module = out_projection(model, layer, part.part).module
        handles = [getattr(module, "original_component", module).register_forward_pre_hook(headless)]
    else:
        handles = []
    points = [] if handles else [(branch.point, silent) for branch in branches_of(model, layer, part.kind)[1]]
    try:
        without = model.run_with_hooks(TOKENS, fwd_hooks=points)
    finally:
        for handle in handles:
            handle.remove()
    logits = (without if isinstance(without, Tensor) else without.logits).float()
    clean = case.clean.logits if case.clean.logits is not None else logits
    change = (logits.log_softmax(-1) - clean.log_softmax(-1)).gather(-1, case.targets[..., None])
    return change[:, _PLACE, 0]


def promoted(case: Case) -> Found:
    """Tokens that writes promote: of the whole last state they are the model's own logits, less what no write makes."""
    model = case.model
    lens, vocab = Lens.of(model), int(model.W_U.shape[1])
    site = f"blocks.{len(_layers(case)) - 1}.hook_resid_post"
    reading = read(model, TOKENS, [site])
    state = reading.precise(site)
    effects = write_effects(lens, state.float(), state.float(), Vocabulary.of(None, vocab), vocab)
    ours = torch.zeros(len(state), vocab)
    for ids, value in ((effects.promoted, effects.promoted_value), (effects.suppressed, effects.suppressed_value)):
        ours.scatter_add_(1, ids.clamp_min(0), torch.where(ids >= 0, value.float(), 0.0))
    readout = facts_of(model).readout
    constant = readout.logits(torch.zeros_like(state), capped=False).float()
    logits = readout.logits(state, capped=False) if readout.cap is not None or case.clean.logits is None else (
        case.clean.logits.flatten(0, 1))  # fmt: skip
    wanted = logits.float() - constant
    left = (ours - (wanted - wanted.mean(-1, keepdim=True))).abs().amax(-1)
    share = left / case.scale.flatten()
    grid = ours.reshape(*TOKENS.shape, vocab).permute(2, 0, 1)
    return Found(share.max().item(), left.max().item(), {"promoted": grid})


def sources(case: Case) -> Found:
    """Tokens that heads read: the shares of all sources add up to one."""

    def ask(layer: int) -> tuple[float, dict[str, Tensor]]:
        found = head_sources(case.model, TOKENS, layers=[layer])
        shares = torch.stack([found.itself, found.sink, found.local_total, found.distant_total])
        alone = shares.sum(0)[..., 0] - 1  # the first token reads only itself
        return max(alone.abs().max().item(), (shares.sum(0) - 1).abs().max().item()), {}

    return _partly(case, ask)


def report(case: Case) -> Found:
    """The contribution report, in float32 with skips: its parts' sum is its total."""
    positions = [7]
    targets = case.targets[0]
    first = case.clean is case.base  # in other precisions the column of skips tells as much
    found = layer_contributions(case.model, TOKENS[0], target=targets, positions=positions, skips=first)
    left = [abs(found.sum_of_parts(place) - total) for place, total in zip(positions, found.totals, strict=True)]
    scale = case.scale[0, positions].tolist()
    share = max(value / whole for value, whole in zip(left, scale, strict=True))
    skipped = [note for note in found.notes if note.startswith("skips were left out")]
    told = reason(skipped[0]) if skipped else ""
    return Found(share, max(left), refused=told, share="skips")


def steering(case: Case) -> Found:
    """A vector added to a state, and one added to a write: what the next block gets has moved by just that."""
    model = case.model
    direction = torch.randn(int(model.cfg.d_model), generator=torch.Generator().manual_seed(0))
    sites = [f"blocks.{_STEERED}.hook_resid_post"]
    kinds = facts_of(model).blocks[_STEERED].kinds
    sites += [f"blocks.{_STEERED}.{kinds[-1]}"] if kinds else []
    errors, before = [], None
    for site in sites:
        adapter = VectorAdapter(SteeringVector(direction, site, strength=0.5), positions=[_PLACE])
        if before is None:
            before = _entering(model)
        read_there = read(model, TOKENS, [site], [_PLACE]).precise(site).float()
        with attach(model, adapter):
            after = _entering(model)
        wanted = torch.zeros_like(before)
        wanted[:, _PLACE] = 0.5 * direction * read_there.norm(dim=-1, keepdim=True) / direction.numel() ** 0.5
        wanted *= _handed_on(case)
        errors.append(((after - before - wanted).norm(dim=-1) / before.norm(dim=-1).clamp_min(1e-6)).max().item())
    return Found(max(errors), unit="stream")


def _handed_on(case: Case) -> float:
    """What the stream is multiplied by between the steered block and the next one: RWKV halves it there."""
    name = f"blocks.{_STEERED}.hook_resid_post"
    given = _grid(read(case.model, TOKENS, [name]).precise(name))
    return round((_entering(case.model).norm() / given.norm()).item(), 1)


@torch.no_grad()
def _entering(model: Any) -> Tensor:
    """What the block behind the steered one gets, by a plain hook of torch."""
    seen: list[Tensor] = []

    def keep(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        seen.append(stream_of(args or list(kwargs.values())[:1]).detach().float().clone())

    handle = model.blocks[_STEERED + 1].register_forward_pre_hook(keep, with_kwargs=True)
    try:
        model(TOKENS)
    finally:
        handle.remove()
    return seen[0]


def generation(case: Case) -> Found:
    """Greedy generation under a steering vector: the same text with the cache and without it."""
    model = case.model
    direction = torch.randn(int(model.cfg.d_model), generator=torch.Generator().manual_seed(0))
    vector = SteeringVector(direction, f"blocks.{_STEERED}.hook_resid_post", strength=0.5)
    VectorAdapter(vector).hooks(model)  # refused before the model is asked whether it can generate
    facts_of(model)
    plain, failure = [], ""
    for cache in (True, False):
        try:
            plain.append(_generated(model, cache))
        except Exception as problem:  # without anything of ours: TransformerLens cannot do it
            failure = failure or f"model.generate fails without us too, {'with' if cache else 'without'} the cache: " \
                f"{type(problem).__name__}"  # fmt: skip
    if failure:
        raise InputError(failure)
    texts = []
    for cache in (True, False):
        with attach(model, VectorAdapter(vector)):
            texts.append(_generated(model, cache))
    told = "" if torch.equal(*plain) else "model.generate gives other texts with the cache without us too"
    differ = (texts[0] != texts[1]).float().mean().item()
    if told and differ:
        raise InputError(told)
    return Found(differ)


def _generated(model: Any, cache: bool) -> Tensor:
    return model.generate(TOKENS[:, :6], max_new_tokens=_NEW, do_sample=False, verbose=False, stop_at_eos=False,
                          use_past_kv_cache=cache)[:, 6:]  # fmt: skip


CAPABILITIES: dict[str, Callable[[Case], Found]] = {
    "states": states, "parts": parts, "heads": heads, "direct": direct, "skips": skips, "promoted": promoted,
    "sources": sources, "report": report, "steering": steering, "generation": generation,
}  # fmt: skip
