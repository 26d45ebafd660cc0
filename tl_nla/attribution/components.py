"""Which part of a model is left out: the writing sites, read from a ``Site`` or its text."""

import re
from dataclasses import dataclass
from typing import Any

from tl_nla.errors import InputError, unknown
from tl_nla.model.facts import branches_of, facts_of
from tl_nla.model.heads import out_projection

_HEAD = re.compile(r"^blocks\.(\d+)\.(attn|mixer)\.head\.(\d+)$")
_PART = re.compile(r"^blocks\.(\d+)(?:\.(attn|mixer|mlp|ple))?$")
_SPAN_END = re.compile(r"^blocks\.(\d+)\.hook_resid_(pre|post)$")
KINDS = ("block", "attn", "mixer", "mlp", "ple", "head", "span")


@dataclass(frozen=True)
class Component:
    """A part of a model that writes to the residual stream.

    Attributes:
        kind: one of ``KINDS``.
        layer: the block it is in; for a span the first block of the span.
        head: the head, for kind ``"head"``.
        last: the last block it covers (of a span), else ``layer``.
        part: whose head it is, ``attn`` or ``mixer``.
    """

    kind: str
    layer: int
    head: int | None
    last: int
    part: str = "attn"

    def __str__(self) -> str:
        if self.kind == "span":
            return f"blocks.{self.layer}.hook_resid_pre -> blocks.{self.last}.hook_resid_post"
        tail = {"block": "", "head": f".{self.part}.head.{self.head}"}.get(self.kind, f".{self.kind}")
        return f"blocks.{self.layer}{tail}"


def as_component(site: Any, model: Any) -> Component:
    """Read a writing site, given as a ``tl_nla.Site`` or as its text, and check it against the model.

    Args:
        site: ``blocks.2``, ``blocks.2.attn``, ``blocks.2.mlp``, ``blocks.2.attn.head.3`` or a span of residual states
            such as ``blocks.1.hook_resid_pre -> blocks.3.hook_resid_post``.
        model: the TransformerLens model.

    Raises:
        InputError: the site is a state, or its layer or head does not exist.
    """
    if isinstance(site, Component):
        return site
    text = str(site).strip()
    if match := _HEAD.match(text):
        found = Component("head", int(match[1]), int(match[3]), int(match[1]), match[2])
    elif match := _PART.match(text):
        found = Component(match[2] or "block", int(match[1]), None, int(match[1]))
    elif "->" in text:
        found = _span(text)
    elif ".mlp.expert." in text:
        raise InputError(f"{text!r} can be read, but not left out alone; leave out {text.partition('.expert.')[0]!r}")
    else:
        forms = ("blocks.0", "blocks.0.attn", "blocks.0.mlp", "blocks.0.attn.head.0")
        raise unknown("component to leave out", text, forms)
    layers = int(model.cfg.n_layers)
    if found.last >= layers:
        raise InputError(f"{text!r} is out of range: the model has {layers} layers, 0 to {layers - 1}")
    if found.kind in ("attn", "mixer", "mlp", "ple", "head"):
        branches_of(model, found.layer, found.part if found.kind == "head" else found.kind)
    if found.head is not None:
        heads = out_projection(model, found.layer, found.part).heads
        if found.head >= heads:
            raise InputError(f"{text!r} is out of range: the layer has {heads} heads, 0 to {heads - 1}")
    return found


def _span(text: str) -> Component:
    ends = [_SPAN_END.match(end.strip()) for end in text.split("->")]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        raise InputError(
            f"span {text!r} cannot be left out: its ends must be blocks.i.hook_resid_pre or blocks.i.hook_resid_post"
        )
    first = int(ends[0][1]) + (ends[0][2] == "post")
    last = int(ends[1][1]) - (ends[1][2] == "pre")
    if last < first:
        raise InputError(f"span {text!r} is empty or runs backwards: write the earlier state first")
    return Component("span", first, None, last)


def all_components(model: Any, kinds: tuple[str, ...] = ("block",)) -> list[Component]:
    """Every component of the given kinds that the model has, layer by layer.

    Args:
        model: the TransformerLens model.
        kinds: ``block``, ``attn``, ``mixer``, ``mlp``, ``ple`` and ``head`` (of attentions, and of mixers in layers
            without attention).

    Raises:
        InputError: a kind is none of these.
    """
    found = []
    for kind in kinds:
        if kind not in KINDS[:-1]:
            raise unknown("kind of component", kind, KINDS[:-1])
    for form in facts_of(model).blocks:
        layer = form.layer
        for kind in kinds:
            if kind == "head":
                part = "attn" if "attn" in form.kinds else "mixer"
                count = _heads(model, layer, part) if part in form.kinds else 0
                found += [Component("head", layer, head, layer, part) for head in range(count)]
            elif kind == "block" or kind in form.kinds:
                found.append(Component(kind, layer, None, layer))
    return found


def _heads(model: Any, layer: int, part: str) -> int:
    try:
        return out_projection(model, layer, part).heads
    except InputError:
        return 0
