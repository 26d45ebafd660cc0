"""How far one random tiny model's numbers are from what they should be, for docs/models.md.

The measure of all tolerances is the model itself: how far its own logits, and its own residual stream, are in half
precision from what the same weights give in float32. That is measured first, with plain hooks.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests import families, zoo
from tl_nla.errors import InputError

PRECISIONS = ("float32", "bfloat16", "float16", "autocast")
FLOAT32_LIMIT = 1e-4
"""Largest difference in float32 that counts as exact: of a logit, or of a vector as a share of the stream's norm."""
TOKENS = zoo.tokens(2, 8)
_DIFFERENCE = 2.0
"""A write is the difference of two states, each of which has the model's rounding."""
_LAST_WORDS = 240


@dataclass(frozen=True)
class Cell:
    """One verdict: ``exact``, ``approximate``, ``partly`` (refused in some layers), ``refused`` or ``crash``.

    Attributes:
        verdict: one of these.
        error: the largest error against the run itself: of a logit in float32, else as a share.
        drift: the largest difference from the float32 numbers of the same weights, as a share; in half precision.
        note: why something was refused, or what crashed.
    """

    verdict: str
    error: float | None = None
    drift: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Found:
    """What a capability gave, and how far it is from a second computation in the same precision.

    Attributes:
        error: largest difference from the second computation, in the unit of ``float32`` when that is given.
        float32: the same in absolute numbers, for the verdict in float32; ``error`` when ``None``.
        values: numbers to compare with those of float32, each ``[..., batch, pos]`` (or ``[..., batch, pos, d]``).
        unit: what they are shares of: ``logits`` (the range of the logits) or ``stream`` (the norm of the state).
        worst_case: whether the model's largest rounding is the limit for ``error`` instead of its usual one.
        refused: what was refused, where the rest was given.
        share: of the layers or parts that were refused, as text.
    """

    error: float
    float32: float | None = None
    values: dict[str, Tensor] = field(default_factory=dict)
    unit: str = "logits"
    worst_case: bool = False
    refused: str = ""
    share: str = ""


@dataclass(frozen=True)
class Clean:
    """One ordinary run, seen by plain hooks on the blocks.

    Attributes:
        logits: ``[batch, pos, vocab]``, float32.
        states: what enters each block, and what leaves the last one, ``[batch, pos, d_model]``, float32.
        failure: why there are none of these.
    """

    logits: Tensor | None
    states: tuple[Tensor, ...] = ()
    failure: str = ""


@dataclass
class Case:
    """A model in one precision.

    Attributes:
        model: the bridge.
        clean: its run on ``TOKENS``.
        base: the run of the same weights in float32.
        targets: the tokens that are explained, the same in all precisions.
    """

    model: Any
    clean: Clean
    base: Clean
    targets: Tensor

    @property
    def scale(self) -> Tensor:
        """Range of the logits at each position, float32."""
        logits = self.base.logits if self.base.logits is not None else torch.ones(*TOKENS.shape, 2)
        return (logits.amax(-1) - logits.amin(-1)).clamp_min(1e-6)

    @property
    def norm(self) -> Tensor:
        """Norm of the last residual state at each position, float32; one where it was not seen."""
        return self.base.states[-1].norm(dim=-1).clamp_min(1e-6) if self.base.states else torch.ones(TOKENS.shape)

    def rounding(self, unit: str = "logits") -> Tensor | None:
        """How far this model's own numbers are from its float32 ones, largest at each position, as a share."""
        if self.clean.logits is None or self.base.logits is None:
            return None
        if unit == "logits":
            return (self.clean.logits - self.base.logits).abs().amax(-1) / self.scale
        pairs = zip(self.clean.states, self.base.states, strict=False)
        moved = [(ours - theirs).norm(dim=-1) / self.norm for ours, theirs in pairs]
        return torch.stack(moved).amax(0) if moved else None


@contextmanager
def precision(name: str) -> Iterator[AbstractContextManager[Any]]:
    """Autocast where it is asked for."""
    with torch.autocast("cpu", torch.bfloat16) if name == "autocast" else nullcontext() as entered:
        yield entered


def stream_of(value: Any) -> Any:
    """The residual stream in what a block is given or gives; of several streams (Gemma 3n) the active one."""
    value = value[0] if isinstance(value, tuple | list) and value else value
    return value[0] if isinstance(value, Tensor) and value.ndim == 4 and value.shape[1:3] == TOKENS.shape else value


@torch.no_grad()
def clean_run(model: Any) -> Clean:
    """Run the model, watched by plain hooks of torch."""
    entered: list[Tensor] = []
    shape = (*TOKENS.shape, int(model.cfg.d_model))
    blocks = list(getattr(model, "blocks", []))

    def keep(value: Any) -> None:
        value = stream_of(value)
        if isinstance(value, Tensor) and value.shape == shape:
            entered.append(value.detach().float().clone())

    handles = [
        block.register_forward_pre_hook(lambda _, args, kwargs: keep(args or list(kwargs.values())[:1]),
                                        with_kwargs=True)
        for block in blocks
    ]  # fmt: skip
    handles += [block.register_forward_hook(lambda _, args, output: keep(output)) for block in blocks[-1:]]
    try:
        output = model(TOKENS)
    except Exception as error:  # the model's own failure, before anything of ours
        return Clean(None, failure=f"{type(error).__name__}: {error}")
    finally:
        for handle in handles:
            handle.remove()
    logits = output if isinstance(output, Tensor) else output.logits
    return Clean(logits.float(), tuple(entered) if len(entered) == len(blocks) + 1 else ())


def judge(case: Case, found: Found, base: Found | None) -> Cell:
    """The verdict on what was found; ``base`` is the same in float32, and ``None`` where this is float32."""
    if base is None:
        error = found.error if found.float32 is None else found.float32
        return _cell(found, error <= FLOAT32_LIMIT, error, None)
    own = case.rounding(found.unit)
    own = case.rounding() if own is None else own
    if own is None:
        return _cell(found, False, found.error, None)
    usual = own.median()
    drift, missing = _drift(case, found, base, _DIFFERENCE * torch.maximum(own, usual))
    limit = (own.amax() if found.worst_case else usual).item()
    exact = found.error <= limit and (drift is None or drift[1] <= 1.0) and not missing
    return _cell(found, exact, found.error, None if drift is None else drift[0], missing)


def _cell(found: Found, exact: bool, error: float, drift: float | None, missing: str = "") -> Cell:
    if error != error:
        return Cell("crash", note="a number that is not finite was given without a word")
    verdict = "approximate" if not exact else "partly" if found.refused else "exact"
    note = f"{found.share} refused: {found.refused}" if found.refused else missing
    return Cell(verdict, _short(error), None if drift is None else _short(drift), note)


def _drift(case: Case, found: Found, base: Found, allowed: Tensor) -> tuple[tuple[float, float] | None, str]:
    """Largest difference from float32, as a share and in units of what is allowed; and what only float32 has."""
    missing = [name for name in base.values if name not in found.values]
    told = f"{len(missing)} of {len(base.values)} parts of float32 are missing" if missing else ""
    shares, excess = [0.0], [0.0]
    for name, value in found.values.items():
        if name not in base.values:
            continue
        difference = value.float() - base.values[name].float()
        share = difference.norm(dim=-1) / case.norm if found.unit == "stream" else difference.abs() / case.scale
        shares.append(share.max().item())
        excess.append((share / allowed).max().item())
    return (None if not found.values else (max(shares), max(excess))), told


def measured(case: Case, ask: Callable[[Case], Found], base: Found | str | None) -> tuple[Cell, Found | None]:
    """Ask for a capability; errors of the package are refusals, all others are crashes."""
    try:
        found = ask(case)
    except InputError as error:
        return Cell("refused", note=reason(error)), None
    except Exception as error:  # what the page is for
        return Cell("crash", note=f"{type(error).__name__}: {reason(error)}"), None
    if isinstance(base, str):
        return judge(case, found, None), found
    return judge(case, found, base or Found(0.0)), found


def reason(error: Exception | str) -> str:
    """The first words of an error, without what differs from layer to layer."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LAST_WORDS else text[:_LAST_WORDS].rsplit(" ", 1)[0] + " …"


def measure_family(family: str, capabilities: dict[str, Callable[[Case], Found]]) -> dict[str, Any]:
    """All cells of one family, ready for JSON."""
    if family in families.UNSUPPORTED:
        return {"not_loaded": families.UNSUPPORTED[family]}
    with torch.no_grad():
        theirs = families.build(family)(TOKENS).logits.float()
    result: dict[str, Any] = {"precisions": {}}
    base_found: dict[str, Found | None] = {}
    base = Clean(None)
    for name in PRECISIONS:
        dtype = torch.float32 if name == "autocast" else getattr(torch, name)
        model = families.bridge(family, dtype)
        with precision(name):
            clean = clean_run(model)
            if name == "float32":
                base = clean
                if clean.logits is not None:
                    scale = theirs.amax(-1) - theirs.amin(-1)
                    result["bridge"] = _short(((clean.logits - theirs).abs().amax(-1) / scale).max().item())
            targets = TOKENS if base.logits is None else base.logits.argmax(-1)
            case = Case(model, clean, base, targets)
            cells = {}
            for capability, ask in capabilities.items():
                known = "float32" if name == "float32" else base_found.get(capability)
                cell, found = measured(case, ask, known)
                if name == "float32":
                    base_found[capability] = found
                cells[capability] = [cell.verdict, cell.error, cell.drift, cell.note]
        own = case.rounding()
        rounding = None if own is None else [_short(own.median().item()), _short(own.max().item())]
        result["precisions"][name] = {"rounding": rounding, "failure": reason(clean.failure), "cells": cells}
    return result


def _short(value: float) -> float:
    return float(f"{value:.2g}")
