"""Direct attribution: how much each part writes straight into a logit, the later layers left aside.

The last residual state is a sum of writes. With the scale of the final norm held at its value in the run, everything
behind it is linear, so a logit is a sum with one term for each write and one for the biases (Elhage et al. 2021,
"A Mathematical Framework for Transformer Circuits"; nostalgebraist 2020, "logit lens"). No weight is folded and the
model's mode is not touched, unlike ``transformer_lens.tools.analysis.direct_logit_attribution``.

All parts are computed in float32 from what the model stored, whatever its precision. What the storing itself added has
a part of its own, ``rounding``. What nothing explains is ``unaccounted``, and is never mixed with either.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.attribution.capture import capture
from tl_nla.attribution.clean_run import CleanRun
from tl_nla.errors import InputError, unknown
from tl_nla.metrics.probabilities import log_probabilities
from tl_nla.model.facts import ModelFacts, facts_of
from tl_nla.model.norms import parameter
from tl_nla.model.predicted import predicted_ids
from tl_nla.model.reading import check_tokens
from tl_nla.model.readout import ReadOut, final_norm
from tl_nla.model.rounding import compare, step_of

UNITS = ("component", "layer", "head")
QUANTITIES = ("logit", "difference", "log_prob")
UNACCOUNTED = 0.05
"""Share of the range of a position's logits that may stay unexplained before an attribution is refused."""


@dataclass(frozen=True)
class DirectAttribution:
    """Additive parts of one number for each position.

    Attributes:
        labels: names of the parts: ``embed``. For each block ``blocks.i.attn``, ``.mixer``, ``.mlp``, ``.ple``, or
            ``blocks.i.attn.head.h`` with ``blocks.i.attn.bias``, or ``blocks.i``. Then ``rounding`` (what storing the
            stream in the model's precision added) and ``bias`` (final norm's and unembedding's bias, and for
            ``log_prob`` minus the entropy of the prediction).
        values: their contributions; they sum to ``total`` less ``unaccounted``.
        total: the model's own logit (before a soft cap, where the family has one), the difference of two logits, or the
            log-probability in nats.
        quantity: one of ``QUANTITIES``. ``log_prob`` is linearised at the clean prediction p: a write counts with its
            effect on ``logit[target] - sum_v p[v] logit[v]``, and ``log p[target]`` is that minus the entropy of p.
        before_soft_cap: whether the logits are those before the model's soft cap.
        unaccounted: what no part explains: the rounding of the final norm and of the logits, and any error.
        logit_range: largest minus smallest logit of each position, the scale for ``unaccounted``.
        notes: what could not be split further, and why.
        misfit: how far the final norm and the logits are from the form that the parts are computed with, as a share of
            ``logit_range``. The sum for one token may be right by chance where this form is wrong.
    """

    labels: tuple[str, ...]
    values: Float[Tensor, "part batch pos"]
    total: Float[Tensor, "batch pos"]
    quantity: str
    before_soft_cap: bool
    unaccounted: Float[Tensor, "batch pos"]
    logit_range: Float[Tensor, "batch pos"]
    notes: tuple[str, ...] = ()
    misfit: Float[Tensor, "batch pos"] | None = None

    def __getitem__(self, label: Any) -> Float[Tensor, "batch pos"]:
        """The contribution of one part, by its label or its ``Site``."""
        if str(label) not in self.labels:
            raise unknown("part", str(label), self.labels)
        return self.values[self.labels.index(str(label))]

    @property
    def unaccounted_share(self) -> Float[Tensor, "batch pos"]:
        """What is unaccounted for, as a share of the range of the position's logits; at least the ``misfit``."""
        share = self.unaccounted.abs() / self.logit_range.clamp_min(1e-12)
        return share if self.misfit is None else torch.maximum(share, self.misfit.to(share))


@dataclass(frozen=True)
class DirectConfig:
    """What number is split, and how much of it may stay unexplained.

    Attributes:
        quantity: ``logit``, ``difference`` or ``log_prob``; by default ``difference`` when ``against`` is given, and
            ``logit`` otherwise.
        max_unaccounted: share of the range of a position's logits that may stay unexplained.
    """

    quantity: str | None = None
    max_unaccounted: float = UNACCOUNTED


def direct_attribution(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    target: Int[Tensor, "..."] | int,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    *,
    against: Int[Tensor, "..."] | int | None = None,
    unit: str = "component",
    how: DirectConfig | None = None,
) -> DirectAttribution:
    """Split a logit, a logit difference or a log-probability at every position into what each part writes.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode; it is left as found.
        tokens: token ids.
        target: the token id to explain, one for all or broadcasting to ``[batch, pos]``.
        attention_mask: 1 for tokens, 0 for padding. Values at padding mean nothing.
        against: the other token of a logit difference.
        unit: ``component`` (attention, other mixers, MLP and per-layer embedding of each block), ``layer`` (blocks) or
            ``head`` (heads, attention bias and the other components). Behind a norm on the attention's output heads
            count with that norm's scale held fixed. Layers without heads stay whole; ``notes`` say why.
        how: the quantity that is split, and the share that may stay unexplained.

    Returns:
        The parts, in float32. Their sum is compared with the model's own number.

    Raises:
        InputError: unknown unit, quantity or token id; a log-probability behind a soft cap; more unexplained than
            ``how.max_unaccounted``.

    Example:
        ``direct_attribution(model, tokens, 5, how=DirectConfig("log_prob"))["blocks.2.mlp"]``
    """
    how = how or DirectConfig()
    asked = Asked(target, against, how.quantity or ("logit" if against is None else "difference"), unit)
    check_tokens(model, tokens)
    asked.check(model)
    clean = capture(model, tokens, attention_mask, solve=False, heads=unit == "head")
    return attribute_run(model, clean, asked, how.max_unaccounted)


@dataclass(frozen=True)
class Asked:
    """What is split into parts; as the arguments of :func:`direct_attribution`."""

    target: Int[Tensor, "..."] | int
    against: Int[Tensor, "..."] | int | None
    quantity: str
    unit: str = "component"

    def check(self, model: Any) -> None:
        """Refuse what cannot be split.

        Raises:
            InputError: unknown unit or quantity; a log-probability behind a soft cap.
        """
        _check_request(model, facts_of(model), self.target, self.against, self.quantity, self.unit)


def attribute_run(model: Any, clean: CleanRun, asked: Asked, max_unaccounted: float) -> DirectAttribution:
    """The same of a run that was captured before (with its heads, where these are asked for).

    Args:
        model: the model that was run.
        clean: the run.
        asked: what is split; checked before.
        max_unaccounted: share of the range of a position's logits that may stay unexplained.

    Raises:
        InputError: unknown token ids; ``against`` that is the target; more unexplained than ``max_unaccounted``.
    """
    wanted = _ids(model, asked.target, clean.tokens, "target")
    other = None if asked.against is None else _ids(model, asked.against, clean.tokens, "against")
    if other is not None and torch.equal(wanted, other):
        raise InputError(
            "target and against are the same token at every position, so their difference is 0; give another token"
        )
    with torch.no_grad():
        found = _attributed(model, facts_of(model), clean, wanted, other, (asked.quantity, asked.unit))
    _check_sum(model, found, clean, max_unaccounted)
    return found


def _attributed(
    model: Any, facts: ModelFacts, clean: CleanRun, target: Tensor, against: Tensor | None, asked: tuple[str, str]
) -> DirectAttribution:
    quantity, unit = asked
    last = clean.inputs[-1]
    readout = clean.readout(model)
    logits = _uncapped(model, readout, clean)
    row, offset = _readout_row(model, readout, logits, target, against, quantity)
    total, constant = _total(logits, target, against, quantity)
    scale = readout.norm.scale(last)
    direction = readout.norm.pull_back(row, scale)
    bias = (row * readout.norm.shift.to(row)).sum(-1) + offset + constant
    notes: list[str] = []
    labels, values = [], []
    rounding = torch.zeros_like(bias)
    for label, write in _writes(model, facts, clean, unit, notes):
        added = (write.to(direction.device).float() * direction).sum(-1)
        if label == "rounding":
            rounding = rounding + added
            continue
        labels.append(label)
        values.append(added)
    stacked = torch.stack([*values, rounding, bias])
    values_range = logits.amax(-1).float() - logits.amin(-1).float()
    missing = total - stacked.sum(0)
    return DirectAttribution(
        (*labels, "rounding", "bias"), stacked, total, quantity, readout.cap is not None, missing, values_range,
        tuple(notes), _misfit(model, readout, clean, row, values_range),
    )  # fmt: skip


def _misfit(
    model: Any, readout: ReadOut, clean: CleanRun, row: Float[Tensor, "batch pos d_model"], scale: Tensor
) -> Float[Tensor, "batch pos"] | None:
    """What a wrong form of the norm or of the logits costs a token of this size on average, as a share of the range."""
    if readout.norm.fit.exact and readout.fit.exact:
        return None
    last = clean.inputs[-1]
    lost = torch.zeros_like(scale)
    if not readout.norm.fit.exact:
        error = final_norm(model, last).float() - readout.norm(last)
        lost = row.norm(dim=-1) * error.square().mean(-1).sqrt().to(row.device)
    if not readout.fit.exact:
        error = clean.logits.float() - readout.logits(last).to(clean.logits.device).float()
        lost = lost + error.square().mean(-1).sqrt()
    return lost / scale.clamp_min(1e-12)


def _check_request(model: Any, facts: ModelFacts, target: Any, against: Any, quantity: str, unit: str) -> None:
    if unit not in UNITS:
        raise unknown("unit", unit, UNITS)
    if quantity not in QUANTITIES:
        raise unknown("quantity", quantity, QUANTITIES)
    if (quantity == "difference") != (against is not None):
        raise InputError(
            f"quantity is {quantity!r} and against was {'not ' if against is None else ''}given; a logit difference "
            "needs the other token (against=, --against), and no other quantity takes one"
        )
    if quantity == "log_prob" and facts.readout.cap is not None:
        raise InputError(
            "this model caps its logits softly, so log-probabilities are no sum of writes; ask for quantity='logit', "
            "the logit before the cap"
        )


def _ids(model: Any, ids: Any, tokens: Tensor, role: str) -> Int[Tensor, "batch pos"]:
    values = predicted_ids(model, ids, role).to(tokens.device)
    try:
        return values.expand_as(tokens)
    except RuntimeError:
        raise InputError(
            f"{role} of shape {tuple(values.shape)} does not broadcast to [batch, pos] = {tuple(tokens.shape)}"
        ) from None


def _uncapped(model: Any, readout: ReadOut, clean: CleanRun) -> Tensor:
    """The model's own logits; before the cap, where it has one, as its own modules give them."""
    if readout.cap is None:
        return clean.logits
    logits = readout.logits(clean.inputs[-1], capped=False).to(clean.logits.device)
    # What else happens to the logits must not go unseen.
    return logits + (clean.logits - readout.cap * torch.tanh(logits / readout.cap))


def _readout_row(
    model: Any, readout: ReadOut, logits: Tensor, target: Tensor, against: Tensor | None, quantity: str
) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos"]]:
    """The direction behind the final norm that the quantity reads, and what the unembedding's bias adds to it."""
    stored = parameter(model.unembed, "bias", "b_U")
    bias = torch.zeros(logits.shape[-1]) if stored is None else stored.float() * readout.multiplier
    bias = bias.to(logits.device)
    row, offset = readout.rows(target), bias[target]
    if against is not None:
        return row - readout.rows(against), offset - bias[against]
    if quantity == "logit":
        return row, offset
    likely = log_probabilities(logits).exp()
    return row - readout.mean_row(likely), offset - likely @ bias


def _total(
    logits: Tensor, target: Tensor, against: Tensor | None, quantity: str
) -> tuple[Float[Tensor, "batch pos"], Float[Tensor, "batch pos"]]:
    """The quantity, and its constant: for a log-probability minus the entropy of the prediction."""
    if quantity == "log_prob":
        log_p = log_probabilities(logits)
        return log_p.gather(-1, target[..., None])[..., 0], (log_p.exp() * log_p).sum(-1)
    total = logits.gather(-1, target[..., None])[..., 0].float()
    if against is not None:
        total = total - logits.gather(-1, against[..., None])[..., 0].float()
    return total, torch.zeros_like(total)


def _writes(
    model: Any, facts: ModelFacts, clean: CleanRun, unit: str, notes: list[str]
) -> Iterator[tuple[str, Tensor]]:
    """Label and tensor ``[batch, pos, d_model]`` of every term of the last residual state, and its rounding."""
    carried = _carried(facts)
    yield "embed", _before(clean, 0).float() * carried[0]
    for layer, form in enumerate(facts.blocks):
        before, after = _before(clean, layer), clean.inputs[layer + 1].float()
        rest, later = after - form.carry * before.to(after.device).float(), carried[layer + 1]
        if unit == "layer" or not form.branches:
            if unit != "layer":
                notes.append(f"blocks.{layer} stays whole: it is no sum of parts that hooks show ({form.fit})")
            yield f"blocks.{layer}", rest * later
            continue
        terms = [form.carry * before.float()]
        for kind in form.kinds:
            write = form.write(kind, _of_layer(clean, form.points(kind))).float()
            terms.append(write.to(after.device))
            rest = rest - terms[-1]
            split = _heads(model, clean, layer, kind, notes) if unit == "head" else None
            pieces = split or [(f"blocks.{layer}.{kind}", write)]
            for label, piece in pieces:
                yield label, piece * later
            if split:  # what is lost when the sum of heads is stored
                yield "rounding", (write - torch.stack([piece for _, piece in pieces]).sum(0)) * later
        # Under autocast the parts are coarser than the stream that they are added to.
        stored = [clean.kept[branch.point] for branch in form.branches]
        if compare(after, terms, step_of(clean.inputs[layer + 1], before, *stored)).exact:
            yield "rounding", rest * later


def _before(clean: CleanRun, layer: int) -> Tensor:
    """What enters a block, hooks of the user included."""
    return clean.kept.get(f"blocks.{layer}.hook_resid_pre", clean.inputs[layer])


def _of_layer(clean: CleanRun, points: list[str]) -> dict[str, Tensor]:
    missing = [point for point in points if point not in clean.kept]
    if missing:
        raise InputError(f"{missing[0]} did not fire in this run, so its part of the output cannot be told")
    return {point: clean.kept[point] for point in points}


def _carried(facts: ModelFacts) -> list[float]:
    """What the stream behind each number of blocks is multiplied by until the end (layer scalars)."""
    carried = [1.0]
    for form in reversed(facts.blocks):
        carried.append(carried[-1] * (form.carry if form.branches else 1.0))
    return carried[::-1]


def _heads(model: Any, clean: CleanRun, layer: int, kind: str, notes: list[str]) -> list[tuple[str, Tensor]] | None:
    """The heads of an attention or mixer, and its bias; ``None``, and a note, where there are none to be had."""
    if kind not in ("attn", "mixer"):
        return None
    try:
        found = clean.head_sum(model, layer, kind)
    except InputError as error:
        notes.append(f"blocks.{layer}.{kind} stays whole: {error}")
        return None
    shape = clean.inputs[0].shape
    name, writes = f"blocks.{layer}.{kind}", found.writes()
    pieces = [(f"{name}.head.{head}", writes[:, head].reshape(shape)) for head in range(len(found.weight))]
    constant = found.constant.expand(shape[0] * shape[1], -1).reshape(shape)
    return [*pieces, (f"{name}.bias", constant)]


def _check_sum(model: Any, found: DirectAttribution, clean: CleanRun, allowed: float) -> None:
    share = found.unaccounted_share[clean.valid.to(found.total.device)]
    worst = share.max().item() if share.numel() else 0.0
    if not worst <= allowed:
        raise InputError(
            f"{type(model).__name__}: {worst:.1%} of the range of the logits is unaccounted for ({allowed:.0%} is "
            f"allowed). The parts do not sum to the model's own number: {_suspect(model, clean)}. To see the parts all "
            "the same, raise DirectConfig.max_unaccounted"
        )


def _suspect(model: Any, clean: CleanRun) -> str:
    """What may be at fault, from what is known of the run."""
    users = [name for name, point in clean.points.items() if name.startswith("blocks.") and point.fwd_hooks]
    if users:
        return f"hooks of yours at {', '.join(users[:3])} change the run, so try it without them"
    readout = clean.readout(model)
    if not readout.norm.fit.exact:
        return f"no form of the final norm reproduces it ({readout.norm.fit})"
    if not readout.fit.exact:
        return f"the model does more behind its last block than norm and unembedding ({readout.fit})"
    return "something changes the residual stream between the blocks' parts"
