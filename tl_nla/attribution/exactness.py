"""Does leaving out at one position give what the model itself gives? Tried once on each model before it is trusted."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.attribution.capture import capture, watched
from tl_nla.attribution.clean_run import CleanRun, hooked
from tl_nla.attribution.components import Component
from tl_nla.attribution.replay import Start, replay, start_of
from tl_nla.attribution.rerun import rerun
from tl_nla.errors import InputError
from tl_nla.model.facts import facts_of
from tl_nla.model.probe import probe_tokens
from tl_nla.model.rounding import compare, same_state, step_of

_proven: "weakref.WeakKeyDictionary[Any, dict[Any, bool]]" = weakref.WeakKeyDictionary()


def known_of(model: Any) -> dict[Any, bool]:
    """What was proved of a model, or refuted."""
    return _proven.setdefault(model, {})


def all_positions_at_once(model: Any, clean: CleanRun) -> bool:
    """Whether every position can be shown the clean past in one pass, each with its own change.

    The residual stream before the last block is changed at one position. What the block makes of it there has to be the
    same in two runs. In one only that position changed; in the other all of them did and each was shown the clean past.
    Some models are run one position at a time instead. Their hooks can be read but not written (GPT-J), their attention
    does more than the hooks show, or they mix positions differently (DeltaNet, Mamba, convolutions).
    """
    if any(formula is None for formula in clean.diagonals) or not blocks_alone(model, clean):
        return False
    if any(name.split(".")[2:3] == ["attn"] and point.fwd_hooks for name, point in clean.points.items()):
        return False  # the user's hooks inside the attention come before ours, and would not see what ours change
    known = known_of(model)
    key = _key("all", clean)
    length = clean.logits.shape[1]
    if key in known or length < 2:
        return known.get(key, True)
    layer = len(clean.calls) - 1
    entering = clean.inputs[layer]
    changed = entering + _noise(entering)
    try:
        fast = replay(clean, [Start(layer, changed)])[0]
    except (InputError, RuntimeError):
        known[key] = False
        return False
    known[key] = True
    for position in {length // 2, length - 1}:
        slow = replay(clean, [Start(layer, changed).only_at(clean, position)], everywhere=True)[0]
        keep = clean.valid[:, position]
        if bool(keep.any()) and not same_state(fast[keep, position], slow[keep, position]):
            known[key] = False
    return known[key]


def blocks_alone(model: Any, clean: CleanRun) -> bool:
    """Whether blocks can be run again one by one: several copies from the middle on give the clean run's end.

    It fails where blocks share what the call does not show, such as the keys and values of earlier layers.
    """
    known = known_of(model)
    key = _key("alone", clean)
    if key not in known:
        first, middle, last = (Start(layer, clean.inputs[layer]) for layer in _some_layers(clean))
        try:
            # A changed copy runs beside clean ones, then other copies from a later layer: these must not see it.
            changed = Start(0, clean.inputs[0] + _noise(clean.inputs[0]))
            found = [
                replay(clean, starts, everywhere=True) for starts in ([changed, first, middle], [last], [last] * 4)
            ]
            ends = [*found[0][1:], *found[1], *found[2]]
            known[key] = all(same_state(end[clean.valid], clean.inputs[-1][clean.valid]) for end in ends)
        except (InputError, RuntimeError, TypeError, ValueError, AttributeError, KeyError):
            known[key] = False
    return known[key]


def _key(proof: str, clean: CleanRun) -> tuple[Any, ...]:
    """What a proof holds for: blocks are called otherwise with one text alone, and with padding."""
    return proof, clean.state, clean.batch == 1, clean.mask is None


def _some_layers(clean: CleanRun) -> tuple[int, int, int]:
    return 0, len(clean.calls) // 2, len(clean.calls) - 1


def leave_out(
    model: Any, clean: CleanRun, starts: Sequence[Start], position: int | None = None
) -> Float[Tensor, "component batch pos d_model"]:
    """Last residual states with each change made, at one position or at all; later positions see the changed ones."""
    local = starts if position is None else [start.only_at(clean, position) for start in starts]
    if blocks_alone(model, clean):
        return replay(clean, local, everywhere=True)
    for start in local:
        put = clean.kept.get(f"blocks.{start.layer - 1}.hook_resid_post")
        if not start.edits and put is not None and not torch.equal(put, clean.inputs[start.layer].to(put.device)):
            raise InputError(
                f"something changes the residual stream between blocks.{start.layer - 1} and blocks.{start.layer}: a "
                "hook of yours (try it without), or the model itself. So nothing can be put there in its place"
            )
    return rerun(model, clean, local, position)


@torch.no_grad()
def check_causal(model: Any, clean: CleanRun) -> None:
    """Make sure that a change at a position leaves the earlier ones alone: another token at the end of a short text.

    Raises:
        InputError: the model looks ahead, so that nothing is local to a position.
    """
    known, key = known_of(model), _key("causal", clean)
    if known.get(key) or clean.length < 2:
        return
    changed = watched(clean.state)
    mine = clean.columns is not None or not (changed or _users(clean))
    rows = probe_tokens(model) if mine else clean.tokens
    if rows.shape[1] < 2:
        return
    tokens, last = torch.cat([rows, rows]), []
    tokens[len(rows) :, -1] = (rows[:, -1] + 1) % int(model.cfg.d_vocab)
    mask = None if clean.mask is None else torch.ones_like(tokens) if mine else torch.cat([clean.mask, clean.mask])

    def keep(block: Any, args: tuple, output: Any) -> None:
        last.append((output[0] if isinstance(output, tuple | list) else output).detach())

    watcher = model.blocks[len(clean.calls) - 1].register_forward_hook(keep)
    try:
        model(tokens, **({} if mask is None else {"attention_mask": mask}))
    finally:
        watcher.remove()
    # What stands at padding may depend on anything.
    told = torch.ones_like(rows) if mine or clean.mask is None else clean.mask
    one, other = (state[told[:, :-1].bool()] for state in last[-1][:, :-1].split(len(rows)))
    alike = same_state(one, other)
    if alike and changed and clean.columns is None:
        # A hook between blocks sees what is put in there, too: so a change in the stream has to show the same.
        entering, real = clean.inputs[1], clean.valid[:, :-1]
        found = leave_out(model, clean, [Start(1, entering + _noise(entering))], clean.length - 1)[0]
        alike = same_state(found[:, :-1][real], clean.inputs[-1][:, :-1][real])
    if not alike:
        raise InputError(
            f"{type(model).__name__}: a change at the last position changes earlier ones, so nothing can be left out "
            "at one position alone. Leave it out at all positions instead"
        )
    known[key] = True


def check_writable(model: Any, clean: CleanRun, parts: Sequence[Component]) -> None:
    """Make sure that a change at each component's hook point reaches its block's output as it should.

    Raises:
        InputError: a hook point can be read but not written on this model.
    """
    known, facts = known_of(model), facts_of(model)
    behind: set[int] = set()
    short: CleanRun | None = None
    for part in parts:
        form = facts.blocks[part.layer]
        key = part.kind, part.part, form.kinds, clean.state
        proven = part.kind in ("block", "span") or known.get(key)
        last = part.kind in ("block", "span") or (part.kind == "mlp" and not start_of(model, clean, part).edits)
        if last and part.last not in behind:
            _check_handed_on(model, clean, part)
            behind.add(part.last)
        if not proven:
            short = short or _short(model, clean)
            _check_written(model, short, part)
            known[key] = True


def _users(clean: CleanRun) -> bool:
    """Whether hooks of the user's are on the model."""
    return any(point.fwd_hooks for point in clean.points.values())


def _short(model: Any, clean: CleanRun) -> CleanRun:
    """A run of a few tokens that proves as much; the run itself where hooks of the user's may count positions."""
    if clean.columns is None and (clean.mask is not None or _users(clean)):
        return clean
    return capture(model, probe_tokens(model), solve=False)


def _check_written(model: Any, clean: CleanRun, component: Component) -> None:
    form, start = facts_of(model).blocks[component.layer], start_of(model, clean, component)
    if not start.edits:
        return
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def function(value: Tensor, hook: Any) -> None:
            seen[name] = value.detach().clone()

        return function

    pairs = [(clean.points[name], _edited(edit)) for name, edit in start.edits]
    pairs += [(clean.points[branch.point], keep(branch.point)) for branch in form.branches]
    ends = f"blocks.{component.layer}.hook_resid_post"
    pairs += [(clean.points[ends], keep(ends))] if ends in clean.points else []
    with torch.no_grad(), hooked(pairs):
        model(clean.tokens, **({} if clean.mask is None else {"attention_mask": clean.mask}))
    if ends not in seen:
        raise InputError(f"{component} cannot be left out: nothing shows the output of its block")
    after = seen[ends]
    before = clean.kept.get(f"blocks.{component.layer}.hook_resid_pre", clean.inputs[component.layer])
    terms = [form.carry * before.float(), *(form.write(kind, seen).float() for kind in form.kinds)]
    moved = any(not torch.equal(seen[branch.point], clean.kept[branch.point]) for branch in form.branches)
    if not moved or not compare(after, terms, step_of(after, before, *seen.values())).exact:
        raise InputError(
            f"{component} cannot be left out on this model: what is written at {start.edits[0][0]} does not reach "
            "the block's output. Leave out the whole block, or ask for no skips"
        )


def _check_handed_on(model: Any, clean: CleanRun, component: Component) -> None:
    """The next block has to get what this one gives: a start behind a component stands at the next block's input."""
    given, taken = clean.kept.get(f"blocks.{component.last}.hook_resid_post"), clean.inputs[component.last + 1]
    if given is not None and not compare(taken, [given], step_of(taken, given)).exact:
        raise InputError(
            f"{component} cannot be left out: something changes the residual stream between blocks.{component.last} "
            f"and what follows it. It is a hook of yours (try it without), or {type(model).__name__} itself: "
            "ask for no skips"
        )


def _edited(edit: Any) -> Any:
    return lambda value, hook: edit(value)


def _noise(like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(like.shape, generator=generator).to(like) * like.float().std().to(like)
