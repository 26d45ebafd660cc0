"""Does leaving out at one position give what the model itself gives? Tried once on each model before it is trusted."""

import weakref
from typing import Any

import torch
from torch import Tensor

from tl_nla.attribution.capture import CleanRun
from tl_nla.attribution.replay import Start, replay
from tl_nla.errors import InputError

_proven: "weakref.WeakKeyDictionary[Any, bool]" = weakref.WeakKeyDictionary()


def check_exact(model: Any, clean: CleanRun) -> None:
    """Compare one position of the fast computation with the plain one.

    The residual stream before the last block is changed at one position. What the block makes of it there has to be
    the same whether only that position changed, or all of them did and each was shown the clean past. Models whose
    hooks can be read but not written (GPT-J), or whose attention does more than the hooks show, fail here.

    Raises:
        InputError: the two differ by more than rounding.
    """
    if _proven.get(model):
        return
    layer, length = len(clean.calls) - 1, clean.logits.shape[1]
    if length < 2:
        return
    entering = clean.inputs[layer]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(entering.shape, generator=generator).to(entering) * entering.std()
    fast = replay(clean, [Start(layer, entering + noise)])[0]
    for position in {length // 2, length - 1}:
        one = entering.clone()
        one[:, position] = (entering + noise)[:, position]
        slow = replay(clean, [Start(layer, one)], everywhere=True)[0]
        _compare(fast[:, position], slow[:, position], clean.valid[:, position], model)
    _proven[model] = True


def _compare(fast: Tensor, slow: Tensor, valid: Tensor, model: Any) -> None:
    error = (fast - slow)[valid].abs().max().item() if bool(valid.any()) else 0.0
    if not error <= 256 * torch.finfo(slow.dtype).eps * (1.0 + slow.abs().max().item()):
        raise InputError(
            f"{type(model).__name__}: leaving a component out at single positions is not exact on this architecture "
            f"(differs by {error:.2g} from the one-at-a-time computation); leave it out at all positions instead"
        )
