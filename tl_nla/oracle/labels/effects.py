"""Which next tokens a write promotes and suppresses, read through the unembedding.

With the final norm's scale held fixed everything behind the residual stream is linear, so a write adds
``W_U (gain * write) / scale`` to the logits whatever else is written later (nostalgebraist 2020, "logit lens";
Elhage et al. 2021). Rows are done a few at a time, so memory does not grow with the number of writes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.facts import facts_of
from tl_nla.model.readout import ReadOut
from tl_nla.model.rounding import unmixed
from tl_nla.oracle.labels.vocabulary import Vocabulary

LOGIT_BUDGET = 2**22
"""Logits held at once: few enough to stay in the processor's cache between the passes over them."""
_FEWEST = 32
_PIECE = 2**21
"""Elements of the unembedding that are gathered, or held in float32, at once."""
_BLOCK = 16
_READOUT_ERROR = 0.05
"""Root mean square error of the known read-out, as a share, from which on its words would mislead."""


@dataclass(frozen=True)
class Effects:
    """Tokens that each write promotes and suppresses, strongest first; -1 and 0 where there are fewer.

    Attributes:
        promoted: token ids.
        promoted_value: how much each gains: in logits above the vocabulary's mean, or (softmax-difference version)
            in probability.
        suppressed: token ids.
        suppressed_value: how much each gains, all negative.
    """

    promoted: Int[Tensor, "n k"]
    promoted_value: Float[Tensor, "n k"]
    suppressed: Int[Tensor, "n k"]
    suppressed_value: Float[Tensor, "n k"]


@dataclass(frozen=True)
class Lens:
    """The linear part of a model's read-out; the unembedding is the model's own, not a copy.

    Attributes:
        weight: the unembedding.
        centred: whether the final norm subtracts the mean (LayerNorm) or not (RMSNorm).
        gain: of the final norm, with the factor on the logits; ``None`` for none.
        mean: the mean of the unembedding's columns, which is left out of every value; ``None`` for none.
    """

    weight: Float[Tensor, "d_model vocab"]
    centred: bool
    gain: Float[Tensor, " d_model"] | None = None
    mean: Float[Tensor, " d_model"] | None = None

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any) -> "Lens":
        """Take the read-out of a TransformerLens model, the soft cap (which changes no order) left aside.

        Gain and centring are those of the solver for norms, so that no family has to be known by name.

        Raises:
            InputError: when no form of a norm reproduces the model's final norm, or its logits are more than that
                norm and an unembedding.
        """
        readout = _checked_readout(model)
        weight = model.W_U.detach()
        step = max(1, _PIECE // weight.shape[0])
        pieces = [weight[:, first : first + step].float().sum(1) for first in range(0, weight.shape[1], step)]
        gain = readout.norm.gain.to(weight.device) * readout.multiplier
        return cls(weight, readout.norm.centred, gain, torch.stack(pieces).sum(0) / weight.shape[1])

    def scale(self, state: Float[Tensor, "n d_model"]) -> Float[Tensor, " n"]:
        """What the final norm would divide a state by: root mean square, after centring where it centres."""
        values = state.float()
        values = values - values.mean(-1, keepdim=True) if self.centred else values
        return values.square().mean(-1).sqrt()

    def logits(
        self, write: Float[Tensor, "n d_model"], tokens: Int[Tensor, " m"] | None = None
    ) -> Float[Tensor, "n m"]:
        """What writes add to the logits of some tokens (all of them when ``None``), above the vocabulary's mean.

        The unembedding is taken piece by piece where some tokens are asked for, or where it is not in float32.
        """
        write = write.float() - write.float().mean(-1, keepdim=True) if self.centred else write.float()
        write = (write if self.gain is None else write * self.gain).to(self.weight.device)
        with unmixed(write):
            if tokens is None and self.weight.dtype == torch.float32:
                found = write @ self.weight
            else:
                found = self._by_pieces(write, tokens)
            return found if self.mean is None else found.sub_((write @ self.mean)[:, None])

    def _by_pieces(self, write: Tensor, tokens: Tensor | None) -> Tensor:
        count, step = self.weight.shape[1] if tokens is None else len(tokens), max(1, _PIECE // len(self.weight))
        found = torch.empty(len(write), count, device=write.device)
        for first in range(0, count, step):
            some = slice(first, first + step)
            rows = self.weight.T[some] if tokens is None else self.weight.T[tokens[some].to(self.weight.device)]
            torch.mm(write, rows.float().T, out=found[:, some])
        return found


@torch.no_grad()
def write_effects(
    lens: Lens,
    write: Float[Tensor, "n d_model"],
    before: Float[Tensor, "n d_model"],
    vocabulary: Vocabulary,
    top_k: int = 4,
) -> Effects:
    """Tokens promoted and suppressed by writes at the fixed scale of the states they are added to.

    Swapping the sign of a write swaps both lists. Variants of one word (case, leading space) count once, with the
    strongest of them.

    Args:
        lens: of the model that was read.
        write: writes, in model units.
        before: the states they are added to; only their scale is used, and the order does not depend on it.
        vocabulary: the tokens that may be named.
        top_k: how many tokens are kept on each side.

    Returns:
        Effects in logits above the vocabulary's mean. A zero write has none.

    Raises:
        InputError: when shapes differ or ``top_k`` is below 1.
    """
    _check(write, before, top_k)
    scaled = write.float() / lens.scale(before).clamp_min(1e-12)[:, None]

    def logits(rows: slice, tokens: Tensor | None) -> Tensor:
        return lens.logits(scaled[rows], tokens)

    return _extremes(logits, len(write), vocabulary, top_k, 0.0, lens.weight.shape[1])


@torch.no_grad()
def probability_effects(
    model: Any,
    write: Float[Tensor, "n d_model"],
    before: Float[Tensor, "n d_model"],
    vocabulary: Vocabulary,
    top_k: int = 4,
    floor: float = 0.02,
) -> Effects:
    """The softmax-difference version: ``softmax(lens(before + write)) - softmax(lens(before))``.

    Args:
        model: the TransformerLens model, in evaluation mode; its own final norm and unembedding are used.
        write: writes, in model units.
        before: the states they are added to.
        vocabulary: the tokens that may be named.
        top_k: how many tokens are kept on each side.
        floor: smallest change of probability that counts; rows may keep fewer tokens than ``top_k``.

    Returns:
        Effects in probability.

    Raises:
        InputError: when shapes differ, ``top_k`` is below 1, or the model's read-out is not known.
    """
    _check(write, before, top_k)

    def change(rows: slice, tokens: Tensor | None) -> Tensor:
        states = torch.stack([before[rows] + write[rows], before[rows]])
        after, earlier = readout.logits(states).float().softmax(-1)
        return after - earlier if tokens is None else (after - earlier)[:, tokens.to(after.device)]

    readout = _checked_readout(model)
    return _extremes(change, len(write), vocabulary, top_k, floor, model.W_U.shape[1])


def _checked_readout(model: Any) -> ReadOut:
    readout = facts_of(model).readout
    if not readout.norm.fit.exact:
        raise InputError(
            f"{type(model).__name__}: no form of the final norm reproduces it ({readout.norm.fit}), so what a write "
            "promotes cannot be told"
        )
    if not readout.fit.error <= _READOUT_ERROR:
        raise InputError(
            f"{type(model).__name__} does more behind its last block than norm and unembedding (its logits are "
            f"{readout.fit}), so what a write promotes cannot be told; states and writes can still be read"
        )
    return readout


def _check(write: Tensor, before: Tensor, top_k: int) -> None:
    if write.shape != before.shape:
        raise InputError(f"the writes have shape {tuple(write.shape)}, the states before {tuple(before.shape)}")
    if top_k < 1:
        raise InputError(f"top_k is {top_k}; at least 1 token must be kept")


def _extremes(values: Any, count: int, vocabulary: Vocabulary, top_k: int, floor: float, width: int) -> Effects:
    if width != len(vocabulary.texts):
        raise InputError(f"the unembedding has {width} tokens, the vocabulary {len(vocabulary.texts)}")
    named = None if bool(vocabulary.allowed.all()) else torch.nonzero(vocabulary.allowed).flatten()
    # What is gathered from the unembedding is gathered for more rows at once.
    step = max(_FEWEST, LOGIT_BUDGET // width if named is None else 2 * LOGIT_BUDGET // max(1, len(named)))
    parts = []
    for start in range(0, count, step):
        part = values(slice(start, start + step), named)
        own = (vocabulary.group if named is None else vocabulary.group[named]).to(part.device)
        up, down = (_top_words(part, own, top_k, floor, largest) for largest in (True, False))
        parts.append((up[0], up[1], down[0], -down[1]))
    if not parts:
        raise InputError("no writes were given; at least one is needed")
    promoted, gained, suppressed, lost = (torch.cat(column) for column in zip(*parts, strict=True))
    if named is not None:
        promoted, suppressed = (_named(ids, named.to(ids.device)) for ids in (promoted, suppressed))
    return Effects(promoted, gained, suppressed, lost)


def _named(ids: Tensor, named: Tensor) -> Tensor:
    """Ids of the vocabulary for numbers among those that may be named."""
    return torch.where(ids < 0, ids, named[ids.clamp_min(0)]) if len(named) else ids


def _top_words(
    values: Tensor, group: Tensor, top_k: int, floor: float, largest: bool = True, size: int = 0
) -> tuple[Tensor, Tensor]:
    """Columns and values of the largest values above ``floor``, one a word; -1 and 0 where there are fewer.

    ``group`` is the word of each column. With ``largest`` false the same of the values with their sign turned.
    ``size`` is how many candidates are looked at first, twice ``top_k`` when 0.
    """
    width = values.shape[1]
    size = min(width, size or 2 * top_k)
    found, ids = _topk(values, size, largest)
    found = found if largest else -found
    own = group[ids]
    repeated = (own[:, :, None] == own[:, None, :]).tril(-1).any(-1)
    usable = ~repeated & (found > floor)
    order = (~usable).long().argsort(dim=1, stable=True)[:, :top_k]
    keep = usable.gather(1, order)
    short = (0, top_k - order.shape[1])
    top_ids = torch.nn.functional.pad(ids.gather(1, order).masked_fill(~keep, -1), short, value=-1)
    top_values = torch.nn.functional.pad(found.gather(1, order).masked_fill(~keep, 0.0), short)
    # A row with too few words needs more candidates, unless its last candidate is already below the floor.
    poor = torch.nonzero((usable.sum(1) < top_k) & (found[:, -1] > floor)).flatten()
    if size < width and len(poor):
        top_ids[poor], top_values[poor] = _top_words(values[poor], group, top_k, floor, largest, 4 * size)
    return top_ids, top_values


def _topk(values: Tensor, size: int, largest: bool) -> tuple[Tensor, Tensor]:
    """``values.topk(size, 1, largest)`` by block maxima: what is looked for lies in the blocks with the largest maxima.

    A block is every ``count``-th column, so that maxima are taken over whole rows of columns at once.
    """
    width = values.shape[1]
    if width < 4 * size * _BLOCK:
        return values.topk(size, 1, largest)
    count = width // _BLOCK
    whole = count * _BLOCK
    blocks = values[:, :whole].unflatten(1, (_BLOCK, count))
    chosen = (blocks.amax(1) if largest else blocks.amin(1)).topk(size, 1, largest).indices
    inside = (chosen[:, :, None] + count * torch.arange(_BLOCK, device=values.device)).flatten(1)
    tail = torch.arange(whole, width, device=values.device).expand(len(values), -1)
    columns = torch.cat([inside, tail], 1)
    found, place = values.gather(1, columns).topk(size, 1, largest)
    return found, columns.gather(1, place)
