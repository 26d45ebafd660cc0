"""Whether a model is the one that shipped parts were made for: a few of its states, quantisation forgiven."""

from collections.abc import Sequence
from typing import Any

import torch

from tl_nla.data.progress import tell
from tl_nla.errors import InputError
from tl_nla.model.reading import read

TOKENS = (1, 504, 3575, 282, 4649, 314, 7042, 30, 657, 11216, 25642)
"""The ids of a begin token and some words; only these ids have to mean the same."""
_LAYERS, _COLUMNS = (0.3, 0.6, 0.9), 48
_SAME = 0.995
LEAST = 0.8
"""Mean cosine from which on two sets of states are of one model: bfloat16 reaches 1.00, rounding to 4 bits anew .91."""


@torch.no_grad()
def fingerprint(model: Any) -> list[float]:
    """Some numbers of the model's states on fixed tokens, three layers in a row, each of length 1.

    Args:
        model: a TransformerLens model with at least as many token ids.
    """
    count = int(model.cfg.n_layers)
    sites = [f"blocks.{int(share * count)}.hook_resid_post" for share in _LAYERS]
    ids = torch.tensor([TOKENS], device=model.W_U.device)
    reading = read(model, ids, sites)
    numbers = []
    for site in sites:
        states = reading[site].float().cpu()
        # the first token's state is huge and the same in every text; the differences of the others tell models apart
        step = (states[2:] - states[1:-1]).flatten()
        chosen = step[torch.linspace(0, len(step) - 1, _COLUMNS).long()]
        numbers += (chosen / chosen.norm().clamp_min(1e-12)).tolist()
    return [round(number, 4) for number in numbers]


def agreement(model: Any, known: Sequence[float]) -> float:
    """Mean cosine of a model's states with those of a fingerprint, over its layers."""
    if int(model.cfg.d_vocab) <= max(TOKENS):
        return 0.0
    own, other = (torch.tensor(numbers).view(len(_LAYERS), -1) for numbers in (fingerprint(model), list(known)))
    return float(torch.cosine_similarity(own, other, dim=1).mean())


def check_fingerprint(model: Any, known: Sequence[float], what: str) -> float:
    """Refuse a model that parts were not made for; who listens hears of one that differs more than by its precision.

    Returns:
        The agreement.

    Raises:
        InputError: with the agreement.
    """
    found = agreement(model, known)
    if not found >= LEAST:
        raise InputError(
            f"{what} was made for SmolLM2-135M-Instruct; this model's states agree with it by {found:.2f} only (a "
            f"cosine; {LEAST} or more is needed). Train one of its own: `tl-nla fit-oracle`"
        )
    if found < _SAME:
        tell(f"{what} was made for weights whose states agree with this model's by {found:.2f} (a cosine)")
    return found
