"""Direct attribution: how much each part writes straight into a logit, the later layers left aside.

The last residual state is a sum of writes. With the scale of the final norm held at its value in the run, everything
behind it is linear, so a logit is a sum with one term for each write and one for the biases (Elhage et al. 2021,
"A Mathematical Framework for Transformer Circuits"; nostalgebraist 2020, "logit lens"). No weight is folded and the
model's mode is not touched, unlike ``transformer_lens.tools.analysis.direct_logit_attribution``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.attribution.capture import CleanRun, capture, hooked
from tl_nla.attribution.readout import check_read_out, logit_scale, soft_cap
from tl_nla.errors import InputError, unknown

UNITS = ("component", "layer", "head")
QUANTITIES = ("logit", "difference", "log_prob")


@dataclass(frozen=True)
class DirectAttribution:
    """Additive parts of one number for each position.

    Attributes:
        labels: names of the parts: ``embed``, ``blocks.i.attn``, ``blocks.i.attn.head.h``, ``blocks.i.attn.bias``,
            ``blocks.i.mlp``, ``blocks.i`` and, last, ``bias`` (final norm's and unembedding's bias, and for
            ``log_prob`` minus the entropy of the prediction).
        values: their contributions; they sum to ``total``.
        total: the logit (before a soft cap, where the family has one), the difference of two logits, or the
            log-probability in nats.
        quantity: one of ``QUANTITIES``. ``log_prob`` is linearised at the clean prediction p: a write counts with its
            effect on ``logit[target] - sum_v p[v] logit[v]``, and ``log p[target]`` is that minus the entropy of p.
        before_soft_cap: whether the logits are those before the model's soft cap.
    """

    labels: tuple[str, ...]
    values: Float[Tensor, "part batch pos"]
    total: Float[Tensor, "batch pos"]
    quantity: str
    before_soft_cap: bool

    def __getitem__(self, label: Any) -> Float[Tensor, "batch pos"]:
        """The contribution of one part, by its label or its ``Site``."""
        if str(label) not in self.labels:
            raise unknown("part", str(label), self.labels)
        return self.values[self.labels.index(str(label))]


def direct_attribution(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    target: Int[Tensor, "..."] | int,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    *,
    against: Int[Tensor, "..."] | int | None = None,
    quantity: str | None = None,
    unit: str = "component",
) -> DirectAttribution:
    """Split a logit, a logit difference or a log-probability at every position into what each part writes.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode; it is left as found.
        tokens: token ids.
        target: the token id to explain, one for all or broadcasting to ``[batch, pos]``.
        attention_mask: 1 for tokens, 0 for padding. Values at padding mean nothing.
        against: the other token of a logit difference.
        quantity: ``logit``, ``difference`` or ``log_prob``; by default ``difference`` when ``against`` is given.
        unit: ``component`` (attention and MLP of each block), ``layer`` (blocks) or ``head`` (heads, attention bias
            and MLP). Behind a norm on the attention's output heads count with that norm's scale held fixed.

    Returns:
        The parts; their sum is checked against the model's own number.

    Raises:
        InputError: unknown unit, quantity or token id; a log-probability behind a soft cap; a family in which the
            parts do not sum to the logit.
    """
    quantity = quantity or ("logit" if against is None else "difference")
    _check_request(model, target, against, quantity, unit)
    clean, kept = _run(model, tokens, attention_mask)
    last, scale = clean.inputs[-1], kept["ln_final.hook_scale"]
    with torch.no_grad():
        logits = model.unembed(model.ln_final(last)).float() * logit_scale(model)
        target_ids = _ids(target, tokens)
        row = _readout_row(model, logits, target_ids, None if against is None else _ids(against, tokens), quantity)
        total = _total(logits, target_ids, None if against is None else _ids(against, tokens), quantity)
        linear = _linear_value(logits, row, quantity, total)
        direction, constant = _final_norm(model, last, scale, row, linear)
        labels, values = [], []
        for label, write in _writes(model, clean, kept, unit):
            labels.append(label)
            values.append((write.float() * direction).sum(-1))
        values.append(constant + (total - linear))
        labels.append("bias")
    stacked = torch.stack(values)
    error = (stacked.sum(0) - total)[clean.valid].abs().max().item()
    if not error <= _allowed(last, total, values):
        raise InputError(
            f"{type(model).__name__}: the writes of this family do not sum to its logits (off by {error:.2g}), so "
            "there is no exact direct attribution"
        )
    return DirectAttribution(tuple(labels), stacked, total, quantity, soft_cap(model) is not None)


def _check_request(model: Any, target: Any, against: Any, quantity: str, unit: str) -> None:
    if unit not in UNITS:
        raise unknown("unit", unit, UNITS)
    if quantity not in QUANTITIES:
        raise unknown("quantity", quantity, QUANTITIES)
    if (quantity == "difference") != (against is not None):
        raise InputError("a logit difference takes the token `against` which to measure, and nothing else does")
    if quantity == "log_prob" and soft_cap(model) is not None:
        raise InputError(
            "this model caps its logits softly, so log-probabilities are no sum of writes; ask for quantity='logit', "
            "the logit before the cap"
        )
    vocab = model.cfg.d_vocab
    for ids in (target, against):
        values = torch.as_tensor(0 if ids is None else ids)
        if not bool(((values >= 0) & (values < vocab)).all()):
            raise InputError(f"token ids must lie in 0 to {vocab - 1}; found {values.min()} to {values.max()}")


def _ids(ids: Any, tokens: Tensor) -> Int[Tensor, "batch pos"]:
    try:
        return torch.as_tensor(ids, device=tokens.device).expand_as(tokens)
    except RuntimeError:
        raise InputError(
            f"target of shape {tuple(ids.shape)} does not broadcast to [batch, pos] = {tuple(tokens.shape)}"
        ) from None


def _run(model: Any, tokens: Tensor, attention_mask: Tensor | None) -> tuple[CleanRun, dict[str, Tensor]]:
    """A clean run, and the scales of the norms that it used."""
    kept: dict[str, Tensor] = {}
    names = [name for name in model.hook_dict if name.endswith("hook_scale")]

    def keep(name: str) -> Any:
        def function(value: Tensor, hook: Any) -> None:
            kept[name] = value.detach()

        return function

    points = model.hook_dict
    with hooked([(points[name], keep(name)) for name in names]):
        clean = capture(model, tokens, attention_mask, solve=False)
    check_read_out(model, clean)
    kept.setdefault("ln_final.hook_scale", torch.ones_like(clean.inputs[-1][..., :1]))  # a model without final norm
    return clean, kept


def _readout_row(
    model: Any, logits: Tensor, target: Tensor, against: Tensor | None, quantity: str
) -> Float[Tensor, "batch pos d_model"]:
    """The direction, at the unembedding's input, that the quantity reads."""
    unembedding = model.W_U.detach().float() * logit_scale(model)
    row = unembedding.T[target]
    if against is not None:
        return row - unembedding.T[against]
    return row if quantity == "logit" else row - logits.softmax(-1) @ unembedding.T


def _total(logits: Tensor, target: Tensor, against: Tensor | None, quantity: str) -> Float[Tensor, "batch pos"]:
    values = logits.log_softmax(-1) if quantity == "log_prob" else logits
    total = values.gather(-1, target[..., None])[..., 0]
    return total if against is None else total - values.gather(-1, against[..., None])[..., 0]


def _linear_value(logits: Tensor, row: Tensor, quantity: str, total: Tensor) -> Float[Tensor, "batch pos"]:
    """The quantity without its nonlinear constant: for a log-probability that is without minus the entropy."""
    if quantity != "log_prob":
        return total
    log_p = logits.log_softmax(-1)
    return total - (log_p.exp() * log_p).sum(-1)


def _final_norm(
    model: Any, last: Tensor, scale: Tensor, row: Tensor, linear: Tensor
) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos"]]:
    """Direction in the residual stream, final norm's scale frozen, and what the biases add.

    Whether the norm centres, and whether its gain is the weight or one plus the weight, is read off the module's own
    output rather than from the family's name.
    """
    norm = model.ln_final
    weight, bias = _parameter(norm, "weight", "w"), _parameter(norm, "bias", "b")
    gains = [torch.ones(last.shape[-1]).to(row)] if weight is None else [weight.float(), 1 + weight.float()]
    output, shift = norm(last).float(), 0.0 if bias is None else bias.float()
    allowed = 256 * torch.finfo(last.dtype).eps * (1 + output.abs().max().item())
    for gain in gains:
        for centred in (False, True):
            middle = last.float() - last.float().mean(-1, keepdim=True) if centred else last.float()
            if (middle / scale * gain + shift - output).abs().max().item() > allowed:
                continue
            direction = row * gain
            direction = (direction - direction.mean(-1, keepdim=True) if centred else direction) / scale
            return direction, linear - (output * row).sum(-1) + (row * shift).sum(-1)
    raise InputError(f"{type(model).__name__}: its final norm is not linear at a fixed scale")


def _parameter(module: Any, *names: str) -> Tensor | None:
    for owner in (module, getattr(module, "original_component", None)):
        for name in names:
            value = getattr(owner, name, None)
            if isinstance(value, Tensor):
                return value.detach()
    return None


def _writes(model: Any, clean: CleanRun, kept: dict[str, Tensor], unit: str) -> Iterator[tuple[str, Tensor]]:
    """Label and tensor ``[batch, pos, d_model]`` of every term of the last residual state."""
    yield "embed", clean.at(0, "hook_resid_pre")
    for layer in range(len(clean.calls)):
        name = f"blocks.{layer}"
        if unit == "layer":
            yield name, clean.at(layer, "hook_resid_post") - clean.at(layer, "hook_resid_pre")
            continue
        if unit == "component":
            yield f"{name}.attn", clean.at(layer, "hook_attn_out")
        else:
            yield from _heads(model, clean, kept, layer)
        yield f"{name}.mlp", clean.at(layer, "hook_mlp_out")


def _heads(model: Any, clean: CleanRun, kept: dict[str, Tensor], layer: int) -> Iterator[tuple[str, Tensor]]:
    name, attention = f"blocks.{layer}.attn", model.blocks[layer].attn
    z, whole = clean.at(layer, "attn.hook_z"), clean.at(layer, "hook_attn_out")
    weight, bias = attention.W_O.detach(), getattr(attention, "b_O", None)
    raw = torch.einsum("bthd,hde->hbte", z, weight.to(z))
    offset = torch.zeros_like(whole) if bias is None else bias.detach().to(whole).expand_as(whole)
    for factor in _post_norm_factors(model, kept, layer):
        rest = whole - (raw.sum(0) + offset) * factor
        if rest.abs().max().item() <= 256 * torch.finfo(whole.dtype).eps * (1 + whole.abs().max().item()):
            for head in range(len(raw)):
                yield f"{name}.head.{head}", raw[head] * factor
            yield f"{name}.bias", offset * factor + rest
            return
    raise InputError(f"{name}: its write is not the sum of its heads' writes, so there is no attribution to heads")


def _post_norm_factors(model: Any, kept: dict[str, Tensor], layer: int) -> Iterator[Tensor]:
    """What a norm on the attention's output may multiply a head's write by, none first."""
    block = model.blocks[layer]
    yield torch.ones((), dtype=model.W_U.dtype, device=model.W_U.device)
    for norm in ("ln1_post", "ln1"):
        scale, weight = (
            kept.get(f"blocks.{layer}.{norm}.hook_scale"),
            _parameter(getattr(block, norm, None), "weight", "w"),
        )
        if scale is not None and weight is not None:
            yield weight / scale
            yield (1 + weight) / scale


def _allowed(last: Tensor, total: Tensor, values: list[Tensor]) -> float:
    largest = max(value.abs().max().item() for value in [total, *values])
    return max(1e-4, 256 * torch.finfo(last.dtype).eps * (1.0 + largest))
