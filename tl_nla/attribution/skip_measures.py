"""How far the prediction moves with a component left out: divergence, tokens that change most, ranks among others."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.attribution.clean_run import CleanRun
from tl_nla.attribution.components import Component
from tl_nla.attribution.left_out import Group
from tl_nla.metrics.probabilities import log_probabilities
from tl_nla.model.readout import ReadOut

VOCAB_BUDGET = 2**23
"""Logits held at once while effects are measured: few enough to stay in the processor's cache."""
_FEWEST_ROWS, _SUMMED, _PIECE = 32, 2048, 256


@dataclass(frozen=True)
class Followed:
    """How many components there are, the columns at which their effect is wanted, and the target of each column."""

    components: int
    columns: Sequence[int]
    targets: Int[Tensor, "batch pos"]


def measure(
    readout: ReadOut, clean: CleanRun, groups: Iterable[Group], top_k: int, followed: Followed
) -> dict[str, Tensor]:
    """KL, top token, most changed tokens with their signed weights, and the targets' change, of every component."""
    count, shape, device = followed.components, clean.valid.shape, clean.logits.device
    found = {
        "kl": torch.zeros(count, *shape, device=device), "change": torch.zeros(count, *shape, device=device),
        "top": torch.zeros(count, *shape, dtype=torch.long, device=device),
        "ids": torch.zeros(count, *shape, top_k, dtype=torch.long, device=device),
        "weights": torch.zeros(count, *shape, top_k, device=device),
    }  # fmt: skip
    batch, vocab = clean.logits.shape[0], clean.logits.shape[-1]
    rows = max(_FEWEST_ROWS // batch, VOCAB_BUDGET // (batch * vocab), 1)
    for members, states in groups:
        for first in range(0, len(followed.columns), rows):
            own = list(followed.columns[first : first + rows])
            old = _Old.of(clean.logits[:, own].float(), followed.targets[:, own])
            step = max(1, rows // len(own))
            for begin in range(0, len(members), step):
                some = torch.tensor(members[begin : begin + step], device=device)
                part = states[begin : begin + step, :, first : first + rows]
                # Copied: they are changed in place, and a hook of the user's may hold them.
                make = lambda part=part: readout.logits(part).to(device, torch.float32, copy=True)  # noqa: E731
                for name, value in _compare(old, make, top_k).items():
                    found[name][some[:, None, None], torch.arange(batch, device=device)[:, None], own] = value
    return found


@dataclass(frozen=True)
class _Old:
    """The clean prediction of some columns."""

    logits: Float[Tensor, "batch column vocab"]
    log_p: Float[Tensor, "batch column vocab"]
    p: Float[Tensor, "batch column vocab"]
    targets: Int[Tensor, "batch column"]

    @classmethod
    def of(cls, logits: Float[Tensor, "batch column vocab"], targets: Int[Tensor, "batch column"]) -> "_Old":
        """Of the clean logits."""
        log_p = log_probabilities(logits)
        return cls(logits, log_p, log_p.exp(), targets)

    def mean(self, values: Float[Tensor, "component batch column vocab"]) -> Float[Tensor, "component batch column"]:
        """What is expected of values under the clean prediction, added up in pieces: long sums lose digits."""
        pieces = zip(values.split(_SUMMED, -1), self.p.split(_SUMMED, -1), strict=True)
        # Three times as fast as a product of matrices.
        return torch.stack([(value * p).sum(-1) for value, p in pieces]).sum(0)


def _largest(values: Float[Tensor, "*row vocab"]) -> Int[Tensor, "*row"]:
    """``values.argmax(-1)`` by maxima of pieces, which are many times as fast as maxima with their places."""
    size = values.shape[-1]
    if size < 4 * _PIECE:
        return values.argmax(-1)
    whole = size - size % _PIECE
    pieces = values[..., :whole].unflatten(-1, (-1, _PIECE))
    best, piece = pieces.amax(-1).max(-1)
    place = pieces.gather(-2, piece[..., None, None].expand(*piece.shape, 1, _PIECE))[..., 0, :].argmax(-1)
    found = piece * _PIECE + place
    if whole == size:
        return found
    rest, behind = values[..., whole:].max(-1)
    return torch.where(rest > best, whole + behind, found)


def _compare(old: _Old, make: Callable[[], Tensor], top_k: int) -> dict[str, Tensor]:
    """Compare changed logits, which ``make`` makes anew, with the clean prediction ``p``.

    With ``c`` the change of the logits less its mean under ``p``, KL is ``log E[exp(c)]`` under ``p``. That is as exact
    for a small change as for a large one, and takes few passes over the vocabulary.
    """
    logits = make()
    top = _largest(logits)
    change = logits.sub_(old.logits)
    told = old.targets[None, ..., None].expand(*change.shape[:-1], 1)
    mean = old.mean(change)[..., None]
    change = change.sub_(mean)
    of_target, kept = change.gather(-1, told)[..., 0], change.clone() if top_k else None
    kl = old.mean(change.expm1_()).log1p()
    if not bool(kl.isfinite().all()):  # too large for an exponential
        kl = torch.logsumexp(make() - old.logits - mean + old.log_p, -1)
    found = {"kl": kl.clamp(min=0), "top": top, "change": of_target - kl}
    if kept is not None:
        moved = kept.sub_(kl[..., None])
        # sqrt(p * p') through the logarithms: products of small probabilities underflow.
        weight = moved.abs() * (old.log_p + moved / 2).exp()
        found["ids"] = weight.topk(top_k, dim=-1).indices
        found["weights"] = weight.gather(-1, found["ids"]) * moved.gather(-1, found["ids"]).sign()
    return found


def percentiles(parts: list[Component], kl: Float[Tensor, "component batch pos"]) -> Tensor:
    """Share (0 to 100) of the KLs of the same kind in the same layer that are smaller, ties half; NaN at padding."""
    out = torch.full_like(kl, float("nan"))
    groups: dict[tuple[str, int, int], list[int]] = {}
    for i, part in enumerate(parts):
        groups.setdefault((part.kind, part.layer, part.last), []).append(i)
    for members in groups.values():
        values = kl[members]
        known = ~values.isnan()
        if not bool(known.any()):
            continue
        pool = values[known].sort().values
        below, upto = (torch.searchsorted(pool, values[known], right=side) for side in (False, True))
        values[known] = 100.0 * (below + upto).to(values.dtype) / (2 * len(pool))
        out[members] = values
    return out
