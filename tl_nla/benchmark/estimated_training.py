"""What trainings hold: the parts, the optimiser's state, and one step run on tensors without contents."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from tl_nla.benchmark.dry_run import (
    ADDED,
    Dry,
    Held,
    Part,
    Recipe,
    answer_loss,
    language_model,
    reading_loss,
    shapes_only,
)
from tl_nla.benchmark.estimate import Estimate, Workload
from tl_nla.errors import InputError

_FLOAT32 = 4
_PLAIN = ("embed", "wte", "wpe", "lm_head", "head.weight", "maps")
_BUMPS = 9
_ORACLE_BLOCKS = 2


def training(config: Any, task: str, work: Workload, recipe: Recipe, optimizer: str) -> Estimate:
    """The estimate of one of ``TRAININGS``; see :func:`tl_nla.benchmark.estimate.estimate`."""
    parts = _parts(config, task, work, recipe)
    with shapes_only(*parts):
        weights, notes = sum(part.bytes() for part in parts), []
        if task == "reward" and work.reference and recipe.rank is None:
            weights += parts[0].bytes()
            notes.append("the frozen warm start is a second copy of the verbalizer")
        sizes = [part.count() for part in parts]
        trained = sum(own for _, own in sizes)
        state, gradients = _optimiser(parts, optimizer), _FLOAT32 * trained
        dry = Dry(parts, recipe, int(config.vocab_size))
        phases = _phases(dry, task, work)
    if work.accumulate > 1 or (work.micro_batch or math.inf) < work.batch_size * work.group:
        for name, held in phases.items():  # those of earlier passes are there already
            held.gradients = gradients if work.accumulate > 1 or name == "update" else held.gradients
    # foreach optimisers hold one more copy of what is trained while they step
    phases["step"] = Held(activations=_FLOAT32 * trained, gradients=gradients)
    fullest = max(phases, key=lambda name: phases[name].total)
    update = phases["update"]
    lines = [f"{name}: {weights + state + held.total:,} bytes" for name, held in phases.items()]
    return Estimate(
        task, sum(own for own, _ in sizes), trained, weights, state, gradients,
        update.activations, max(phase.cache for phase in phases.values()),
        max(phase.logits for phase in phases.values()), weights + state + phases[fullest].total,
        4.0 - (not work.reference) if task == "reward" else 1.0,
        (f"fullest phase: {fullest}", *lines, *notes),
    )  # fmt: skip


def _parts(config: Any, task: str, work: Workload, recipe: Recipe) -> list[Part]:
    """The parts of a training; verbalizer first."""
    width, layers = int(config.hidden_size), int(config.num_hidden_layers)
    layer = 2 * layers // 3 if work.layer is None else work.layer
    if layer >= layers:
        raise InputError(f"layer is {layer}; the model has layers 0 to {layers - 1}")
    kept = min(_ORACLE_BLOCKS if work.layer is None else layer + 1, layers)
    # Full training makes every weight float32.
    dtype = recipe.dtype if recipe.rank is not None else None
    whole: Callable[[int | None], Any] = lambda blocks: language_model(config, dtype or _float32(), blocks)  # noqa: E731
    found = []
    if task in ("verbalizer", "reward"):
        found.append(Part(whole(None), recipe, [(width, width), (width,)], False))
    if task in ("reconstructor", "reward"):
        found.append(Part(whole(layer + 1), recipe, [(width, width)], True))
    if task == "oracle":
        found.append(Part(whole(None), recipe, [(2, width, width), (2, width), (2, _BUMPS, width)], True))
    if task == "oracle-reconstructor":
        found.append(Part(whole(kept), recipe, [(width + 1, width)], True))
    return found


def _float32() -> Any:
    import torch

    return torch.float32


def _optimiser(parts: Iterable[Part], kind: str) -> int:
    """Two numbers for each that AdamW trains, one for each that Muon does."""
    total = 0
    for part in parts:
        for name, parameter in part.named_parameters():
            if parameter.requires_grad:
                single = kind == "muon" and parameter.ndim == 2 and not any(word in name for word in _PLAIN)
                total += (1 if single else 2) * _FLOAT32 * parameter.numel()
    return total


def _phases(dry: Dry, task: str, work: Workload) -> dict[str, Held]:
    """What is alive at the fullest moment of each phase of a step."""
    parts, rows, prompt, tokens = dry.parts, work.batch_size, work.prompt, work.tokens
    if task in ("verbalizer", "oracle"):
        loss = lambda: answer_loss(parts[0].model, rows, prompt, tokens)  # noqa: E731
        return {"update": dry.trained(loss)}
    if task in ("reconstructor", "oracle-reconstructor"):
        prefixes = task.startswith("oracle")
        return {"update": dry.trained(lambda: reading_loss(parts[0], rows, tokens + ADDED, prefixes))}
    whole = rows * work.group
    rows = min(whole, work.micro_batch or whole)

    def losses() -> Tensor:
        read = reading_loss(parts[1], rows, tokens + ADDED)
        return read + answer_loss(parts[0].model, rows, prompt, tokens, policy=True)

    updated = dry.trained(losses)
    sampled = dry.sampled(parts[0].model, min(whole, work.sampled or whole), prompt + tokens)
    return {"sampling": sampled, "update": updated}
