"""From a rewritten explanation to a changed state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError, unknown
from tl_nla.metrics.functional import normalise
from tl_nla.steering.rewriters import Rewriter, check_rewriters

MODES = ("delta", "replace")


@dataclass(frozen=True)
class Change:
    """What steering did to states.

    Attributes:
        before: the explanations of the states.
        after: the rewritten ones.
        shift: what is added to each state.
    """

    before: list[str]
    after: list[str]
    shift: Float[Tensor, "n d_model"]


@torch.no_grad()
def change_states(
    nla: Any, acts: Float[Tensor, "n d_model"], rewrite: Rewriter | Sequence[Rewriter], mode: str = "delta",
    strength: Float[Tensor, " n"] | float = 1.0, **settings: Any,
) -> Change:  # fmt: skip
    """Verbalize states, rewrite the words, and read the new words back.

    ``delta`` adds ``strength * (AR(after) - AR(before)) * |state| / sqrt(d_model)``, both readings normalised: what the
    reconstructor gets wrong about the state stays in place, and no edit is no change, exactly. ``replace`` moves the
    state towards ``AR(after)`` at the state's norm, which it keeps. At strength 1 nothing of the state is left but what
    the words say.

    Args:
        nla: anything with ``verbalize(acts) -> list[str]`` and ``reconstruct(texts) -> "n d_model"``.
        acts: the states.
        rewrite: from explanation to explanation; one for all states, or one a state.
        mode: ``"delta"`` or ``"replace"``.
        strength: 0 leaves a state exactly as it is.
        settings: for ``nla.verbalize``.

    Raises:
        InputError: for an unknown mode, a strength that is not finite, what is no rewriter, or rewriters of another
            number.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    check_rewriters(rewrite)
    strengths = _strengths(strength, acts)
    rewriters = [rewrite] * len(acts) if callable(rewrite) else list(rewrite)
    if len(rewriters) != len(acts):
        raise InputError(f"{len(rewriters)} rewriters for {len(acts)} states; give one for all, or one a state")
    states = acts.float()
    before = list(nla.verbalize(states, **settings))
    after = [change(text) for change, text in zip(rewriters, before, strict=True)]
    size = states.norm(dim=-1, keepdim=True)
    scale = size / states.shape[-1] ** 0.5
    shift = torch.zeros_like(states)
    touched = [
        row for row, pair in enumerate(zip(before, after, strict=True)) if mode == "replace" or pair[0] != pair[1]
    ]
    touched = [row for row in touched if float(strengths[row]) != 0]
    if touched:
        rows = torch.tensor(touched, device=acts.device)
        new = normalise(nla.reconstruct([after[row] for row in touched]).to(states))
        weight = strengths[rows, None]
        if mode == "delta":
            old = normalise(nla.reconstruct([before[row] for row in touched]).to(states))
            shift[rows] = weight * (new - old) * scale[rows]
        else:
            mixed = (1 - weight) * states[rows] + weight * new * scale[rows]
            shift[rows] = normalise(mixed) * scale[rows] - states[rows]
    return Change(before, after, shift.to(acts.dtype))


def _strengths(strength: Any, acts: Tensor) -> Float[Tensor, " n"]:
    try:
        given = torch.as_tensor(strength, dtype=torch.float32, device=acts.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"strength is {strength!r}; give a number, or one a state") from error
    if given.shape not in ((), (len(acts),)):
        raise InputError(f"strength has shape {tuple(given.shape)} for {len(acts)} states; give one, or one a state")
    if not torch.isfinite(given).all():
        raise InputError("a strength is not finite; give numbers, 0 for no steering")
    return given.expand(len(acts))
