"""Which next tokens a write promotes and suppresses, read through the unembedding.

With the final norm's scale held fixed everything behind the residual stream is linear, so a write adds
``W_U (gain * write) / scale`` to the logits whatever else is written later (nostalgebraist 2020, "logit lens";
Elhage et al. 2021). Rows are done a few at a time, so memory does not grow with the number of writes.
"""

import weakref
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.facts import facts_of
from tl_nla.model.readout import ReadOut
from tl_nla.model.rounding import unmixed
from tl_nla.oracle.labels.strongest import strongest, top_words
from tl_nla.oracle.labels.vocabulary import Vocabulary

LOGIT_BUDGET = 2**22
"""Logits held at once: few enough to stay in the processor's cache between the passes over them."""
_FEWEST = 32
_PIECE = 2**21
"""Elements of the unembedding that are gathered, or held in float32, at once."""
_READOUT_ERROR = 0.05
"""Root mean square error of the known read-out, as a share, from which on its words would mislead."""


_known: "weakref.WeakKeyDictionary[Any, tuple[Any, Lens]]" = weakref.WeakKeyDictionary()


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

        It is made once for a model, and again when its weights change.

        Gain and centring are those of the solver for norms, so that no family has to be known by name.

        Raises:
            InputError: when no form of a norm reproduces the model's final norm, or its logits are more than that
                norm and an unembedding.
        """
        readout, weight = _checked_readout(model), model.W_U.detach()
        state = id(readout), weight.data_ptr(), weight._version
        if model not in _known or _known[model][0] != state:
            _known[model] = state, cls._made(readout, weight)
        return _known[model][1]

    @classmethod
    def _made(cls, readout: ReadOut, weight: Tensor) -> "Lens":
        step = max(1, _PIECE // weight.shape[0])
        pieces = [weight[:, first : first + step].float().sum(1) for first in range(0, weight.shape[1], step)]
        gain = readout.norm.gain.to(weight.device) * readout.multiplier
        return cls(weight, readout.norm.centred, gain, torch.stack(pieces).sum(0) / weight.shape[1])

    @cached_property
    def lengths(self) -> Float[Tensor, " vocab"]:
        """The norm of each token's direction in the unembedding."""
        return torch.cat([piece.float().norm(dim=0) for piece in self._pieces()])

    @cached_property
    def roundings(self) -> Float[Tensor, " vocab"]:
        """The norm of what each token's direction loses in bfloat16."""
        if self.weight.dtype == torch.bfloat16:
            return torch.zeros(self.weight.shape[1], device=self.weight.device)
        return torch.cat([(piece - piece.to(torch.bfloat16)).float().norm(dim=0) for piece in self._pieces()])

    def _pieces(self) -> tuple[Tensor, ...]:
        """The unembedding by pieces of the vocabulary."""
        return self.weight.split(max(1, _PIECE // len(self.weight)), dim=1)

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
        write = self.read(write)
        with unmixed(write):
            if tokens is None and self.weight.dtype == torch.float32:
                found = write @ self.weight
            else:
                found = self._by_pieces(write, tokens)
            return found if self.mean is None else found.sub_((write @ self.mean)[:, None])

    def read(self, write: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """What the unembedding is multiplied with: centred where the norm centres, times its gain, float32."""
        write = write.float() - write.float().mean(-1, keepdim=True) if self.centred else write.float()
        return (write if self.gain is None else write * self.gain).to(self.weight.device)

    def _by_pieces(self, write: Tensor, tokens: Tensor | None) -> Tensor:
        count, step = self.weight.shape[1] if tokens is None else len(tokens), max(1, _PIECE // len(self.weight))
        found = torch.empty(len(write), count, device=write.device)
        for first in range(0, count, step):
            some = slice(first, first + step)
            rows = (
                self.weight.T[some] if tokens is None else self.weight.T.index_select(0, tokens[some].to(write.device))
            )
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
    named = _named_tokens(vocabulary, lens.weight.shape[1])
    up, down = strongest(lens, scaled, named, vocabulary.group[named], top_k)
    return _effects(up, down, named)


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

    readout, width = _checked_readout(model), int(model.W_U.shape[1])
    named = _named_tokens(vocabulary, width)
    sides: tuple[list[Any], list[Any]] = [], []
    for rows in torch.arange(len(write)).split(max(_FEWEST, LOGIT_BUDGET // width)):
        after, earlier = readout.logits(torch.stack([before[rows] + write[rows], before[rows]])).float().softmax(-1)
        change = (after - earlier)[:, named.to(after.device)]
        for found, largest in zip(sides, (True, False), strict=True):
            found.append(top_words(change, vocabulary.group[named].to(change.device), top_k, floor, largest))
    up, down = ((torch.cat([own[0] for own in found]), torch.cat([own[1] for own in found])) for found in sides)
    return _effects(up, down, named)


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
            f"{readout.fit}), so what a write promotes cannot be told. States and writes can still be read"
        )
    return readout


def _check(write: Tensor, before: Tensor, top_k: int) -> None:
    if write.shape != before.shape:
        raise InputError(f"the writes have shape {tuple(write.shape)}, the states before {tuple(before.shape)}")
    if not len(write):
        raise InputError("no writes were given; at least one is needed")
    if top_k < 1:
        raise InputError(f"top_k is {top_k}; at least 1 token must be kept")


def _named_tokens(vocabulary: Vocabulary, width: int) -> Int[Tensor, " m"]:
    if width != len(vocabulary.texts):
        raise InputError(f"the unembedding has {width} tokens, the vocabulary {len(vocabulary.texts)}")
    return torch.nonzero(vocabulary.allowed).flatten()


def _effects(up: tuple[Tensor, Tensor], down: tuple[Tensor, Tensor], named: Int[Tensor, " m"]) -> Effects:
    return Effects(_ids(up[0], named), up[1], _ids(down[0], named), -down[1])


def _ids(numbers: Int[Tensor, "n k"], named: Int[Tensor, " m"]) -> Int[Tensor, "n k"]:
    """Ids of the vocabulary for numbers among those that may be named."""
    named = named.to(numbers.device)
    return torch.where(numbers < 0, numbers, named[numbers.clamp_min(0)]) if len(named) else numbers
