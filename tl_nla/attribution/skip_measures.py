"""How far the prediction moves with a component left out: divergence, tokens that change most, ranks among others."""

import math
from collections.abc import Iterable, Sequence
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
_FEWEST_ROWS, _PIECE = 32, 2048
_COARSE = 1e-4
"""Rounding step from which on logits are half precision."""
_LOG2_E = math.log2(math.e)


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
    known: tuple[int, _Old] | None = None
    for members, states in groups:
        for first in range(0, len(followed.columns), rows):
            own = list(followed.columns[first : first + rows])
            if known is None or known[0] != first:  # few columns stay the same ones for all groups
                known = first, _Old.of(clean.logits[:, own].float(), followed.targets[:, own])
            old = known[1]
            step = max(1, rows // len(own))
            for begin in range(0, len(members), step):
                some = torch.tensor(members[begin : begin + step], device=device)
                part = states[begin : begin + step, :, first : first + rows]
                for name, value in _compare(old, readout.logits(part).to(device), top_k).items():
                    found[name][some[:, None, None], torch.arange(batch, device=device)[:, None], own] = value
    return found


@dataclass(frozen=True)
class _Old:
    """The clean prediction of some columns; ``parts`` is what each piece's probabilities add up to."""

    logits: Float[Tensor, "batch column vocab"]
    log_p: Float[Tensor, "batch column vocab"]
    p: Float[Tensor, "batch column vocab"]
    parts: Float[Tensor, "piece batch column"]
    targets: Int[Tensor, "batch column"]

    @classmethod
    def of(cls, logits: Float[Tensor, "batch column vocab"], targets: Int[Tensor, "batch column"]) -> "_Old":
        """Of the clean logits."""
        log_p = log_probabilities(logits)
        p = log_p.exp()
        parts = torch.stack([p[..., own].clone().sum(-1) for own in _pieces(p.shape[-1])])
        return cls(logits, log_p, p, parts, targets)

    def weighted(self, values: Tensor, own: slice) -> Float[Tensor, "component batch column"]:
        """Values of a piece of the vocabulary, which are changed in place, times ``p``, added up."""
        return values.mul_(self.p[..., own]).sum(-1)


def _compare(old: _Old, logits: Float[Tensor, "component batch column vocab"], top_k: int) -> dict[str, Tensor]:
    """Compare changed logits with the clean prediction ``p``."""
    coarse = torch.finfo(logits.dtype).eps > _COARSE
    kl, mean, largest = (_of_coarse if coarse else _of_fine)(old, logits)
    lost = torch.nonzero(~kl.isfinite())
    if len(lost):  # too large for an exponential
        row, batch, column = lost.unbind(1)
        moved = logits[row, batch, column].float() - old.logits[batch, column] - mean[row, batch, column]
        kl[row, batch, column] = torch.logsumexp(moved + old.log_p[batch, column], -1)
    told = old.targets[None, ..., None].expand(*logits.shape[:-1], 1)
    before = old.logits[None].expand(logits.shape).gather(-1, told)
    of_target = (logits.gather(-1, told).float() - before - mean)[..., 0]
    found = {
        "kl": kl.clamp(min=0),
        "top": _within(logits, largest.argmax(-1)),
        "change": of_target - kl,
    }
    if top_k:
        moved = (logits.float() - old.logits).sub_(mean).sub_(kl[..., None])
        # sqrt(p * p') through the logarithms: products of small probabilities underflow.
        weight = moved.abs() * (old.log_p + moved / 2).exp()
        found["ids"] = weight.topk(top_k, dim=-1).indices
        found["weights"] = weight.gather(-1, found["ids"]) * moved.gather(-1, found["ids"]).sign()
    return found


_Compared = tuple[Tensor, Tensor, Tensor]
"""Divergences, the mean changes with an axis behind them, and the largest logit of each piece of the vocabulary."""


def _of_fine(old: _Old, logits: Float[Tensor, "component batch column vocab"]) -> _Compared:
    """With ``c`` the change of the logits less its mean under ``p``, KL is ``log E[exp(c)]`` under ``p``.

    That is as exact for a small change as for a large one, and takes few passes over the vocabulary. Pieces of it are
    added up one after the other: they stay in the processor's cache, and long sums would lose digits.
    """
    pieces = _pieces(logits.shape[-1])
    largest, means, sums = list[Tensor](), list[Tensor](), list[Tensor]()
    for own in pieces:
        values = logits[..., own].to(torch.float32, copy=True)  # a hook of the user's may hold the logits
        largest.append(values.amax(-1))
        means.append(old.weighted(values.sub_(old.logits[..., own]), own))
    mean = torch.stack(means).sum(0)[..., None]
    for own in pieces:
        values = logits[..., own].to(torch.float32, copy=True)
        sums.append(old.weighted(values.sub_(old.logits[..., own]).sub_(mean).expm1_(), own))
    return torch.stack(sums).sum(0).log1p(), mean, torch.stack(largest, -1)


def _of_coarse(old: _Old, logits: Float[Tensor, "component batch column vocab"]) -> _Compared:
    """The same of logits that were rounded to half precision: ``log E[exp(c)] - E[c]`` with ``c`` the whole change.

    One pass over the vocabulary, and powers of two, which take a quarter of the time. Some 1e-6 are lost, a
    thousandth of what the rounding of the logits takes.
    """
    largest, means, sums = list[Tensor](), list[Tensor](), list[Tensor]()
    for own in _pieces(logits.shape[-1]):
        values = logits[..., own].to(torch.float32, copy=True)
        largest.append(values.amax(-1))
        means.append(torch.linalg.vecdot(values.sub_(old.logits[..., own]), old.p[..., own]))
        sums.append(old.weighted(values.mul_(_LOG2_E).exp2_(), own))
    mean = torch.stack(means).sum(0)
    # Less what nothing would give, piece by piece: what changes nothing has a divergence of 0.
    grown = (torch.stack(sums) - old.parts[:, None]).sum(0) / old.parts.sum(0)
    return grown.log1p() - mean, mean[..., None], torch.stack(largest, -1)


def _pieces(width: int) -> list[slice]:
    return [slice(first, first + _PIECE) for first in range(0, width, _PIECE)]


def _within(logits: Float[Tensor, "*row vocab"], piece: Int[Tensor, "*row"]) -> Int[Tensor, "*row"]:
    """The place of the largest logit, which is in the piece of this number."""
    # Maxima alone are many times as fast as maxima with their places, which only one piece is asked for.
    places = piece[..., None] * _PIECE + torch.arange(_PIECE, device=piece.device)
    places = places.clamp_(max=logits.shape[-1] - 1)
    return places.gather(-1, logits.gather(-1, places).float().argmax(-1, keepdim=True))[..., 0]


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
