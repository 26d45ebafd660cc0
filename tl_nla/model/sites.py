"""Sites: names for the states and the writes of a model."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from tl_nla.errors import InputError, unknown

Kind = Literal["state", "block", "attn", "mixer", "mlp", "ple", "head", "expert", "span"]
_HEAD = re.compile(r"^blocks\.(\d+)\.(attn|mixer)\.head\.(\d+)$")
_EXPERT = re.compile(r"^blocks\.(\d+)\.mlp\.expert\.(\d+)$")
_PART = re.compile(r"^blocks\.(\d+)(?:\.(attn|mixer|mlp|ple))?$")
_STATE = re.compile(r"^blocks\.(\d+)\.(hook_resid_pre|hook_resid_mid|hook_resid_post)$")
_PARTS: dict[str, Kind] = {"block": "block", "attn": "attn", "mixer": "mixer", "mlp": "mlp", "ple": "ple"}
_WHOLE_STATES = ("hook_embed", "ln_final.hook_normalized")
_FORMS = (
    "blocks.0.hook_resid_pre", "blocks.0.hook_resid_mid", "blocks.0.hook_resid_post", "hook_embed",
    "ln_final.hook_normalized", "blocks.0", "blocks.0.attn", "blocks.0.mlp", "blocks.0.attn.head.0", "blocks.0.mixer",
    "blocks.0.mixer.head.0", "blocks.0.ple", "blocks.0.mlp.expert.0",
)  # fmt: skip


def parse_sites(sites: "Site | str | Iterable[Site | str]") -> "tuple[Site, ...]":
    """One site or several.

    Raises:
        InputError: for none, for what is no site, and for something else than sites.

    Example:
        >>> parse_sites("blocks.1.mlp")
    """
    listed = [sites] if isinstance(sites, Site | str) or not isinstance(sites, Iterable) else list(sites)
    if not listed:
        raise InputError("no sites were given; name at least one, such as 'blocks.0.hook_resid_post'")
    return tuple(Site.parse(site) for site in listed)


@dataclass(frozen=True)
class Site:
    """Where a state or a write is read.

    A state is the residual stream at a point. A write is what a block, its attention, another mixer of positions
    (DeltaNet, convolution, Mamba), its MLP, its per-layer embedding, one head or one expert adds to it. A span is the
    difference of two states.

    Attributes:
        kind: ``state``, ``block``, ``attn``, ``mixer``, ``mlp``, ``ple``, ``head``, ``expert`` or ``span``.
        layer: the block; ``None`` for the embedding, the final norm and spans.
        head: the head, for ``head``.
        point: the hook point, for ``state``.
        start: earlier state of a span.
        end: later state of a span.
        part: whose head it is, ``attn`` or ``mixer``.
        expert: the expert of a mixture, for ``expert``.
    """

    kind: Kind
    layer: int | None = None
    head: int | None = None
    point: str | None = None
    start: "Site | None" = None
    end: "Site | None" = None
    part: str = "attn"
    expert: int | None = None

    @classmethod
    def parse(cls, text: "str | Site") -> "Site":
        """Read a site from its text.

        Args:
            text: ``blocks.2.hook_resid_post`` (or ``_pre``, ``_mid``), ``hook_embed``, ``ln_final.hook_normalized``;
                ``blocks.2``, ``blocks.2.attn``, ``blocks.2.mixer``, ``blocks.2.mlp``, ``blocks.2.ple``,
                ``blocks.2.attn.head.3``, ``blocks.2.mixer.head.3``, ``blocks.2.mlp.expert.5``; or a span of two
                states, ``blocks.1.hook_resid_pre -> blocks.3.hook_resid_post``.

        Raises:
            InputError: for any other text; lists the nearest forms.
        """
        if isinstance(text, Site):
            return text
        if not isinstance(text, str):
            raise InputError(f"a site is {type(text).__name__} ({text!r:.60}); give its text, such as {_FORMS[0]!r}")
        return cls._parse(text.strip())

    @classmethod
    @lru_cache(maxsize=4096)
    def _parse(cls, name: str) -> "Site":
        if "->" in name:
            return cls._parse_span(name)
        if match := _HEAD.match(name):
            return cls("head", int(match[1]), int(match[3]), part=match[2])
        if match := _EXPERT.match(name):
            return cls("expert", int(match[1]), expert=int(match[2]))
        if match := _PART.match(name):
            return cls(_PARTS[match[2] or "block"], int(match[1]))
        if match := _STATE.match(name):
            return cls("state", int(match[1]), point=name)
        if name in _WHOLE_STATES:
            return cls("state", point=name)
        raise unknown("site", name, _FORMS)

    @classmethod
    def _parse_span(cls, text: str) -> "Site":
        ends = [cls.parse(part) for part in text.split("->")]
        if len(ends) != 2 or any(end.kind != "state" for end in ends):
            raise InputError(f"span {text!r} must be two states with one '->' between them, the earlier first")
        if ends[0].order >= ends[1].order:
            raise InputError(f"span {text!r} is empty or runs backwards; write the earlier state first")
        return cls("span", start=ends[0], end=ends[1])

    def __str__(self) -> str:
        if self.kind == "span":
            return f"{self.start} -> {self.end}"
        if self.kind == "state":
            return str(self.point)
        tails = {"block": "", "head": f".{self.part}.head.{self.head}", "expert": f".mlp.expert.{self.expert}"}
        tail = tails.get(self.kind, f".{self.kind}")
        return f"blocks.{self.layer}{tail}"

    @property
    def is_write(self) -> bool:
        """Whether it is a difference (a write or a span) rather than a state."""
        return self.kind != "state"

    @property
    def order(self) -> float:
        """A number that grows along the residual stream; only states can be compared by it."""
        if self.point == "hook_embed":
            return -1.0
        if self.layer is None:
            return float("inf")
        place = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post").index(str(self.point).rsplit(".", 1)[-1])
        return self.layer + place / 2.0

    @property
    def last_layer(self) -> int | None:
        """The last block that must run for the site to be read; ``None`` when the whole model must."""
        if self.kind == "span" and self.end is not None:
            return self.end.last_layer
        if self.kind == "state" and self.point == "hook_embed":
            return 0
        return self.layer

    def validate(self, model: Any, known: Collection[str] | None = None) -> "Site":
        """Check the site against a model.

        Args:
            model: the TransformerLens model.
            known: ``model.hook_dict``, where it was built already.

        Returns:
            The site itself.

        Raises:
            InputError: when the layer, the head or the expert is out of range, or the model lacks the point.
        """
        if self.kind == "span":
            for end in (self.start, self.end):
                if end is not None:
                    end.validate(model, known)
            return self
        known = model.hook_dict if known is None else known
        layers = int(model.cfg.n_layers)
        if self.layer is not None and self.layer >= layers:
            raise InputError(
                f"layer {self.layer} of {str(self)!r} is out of range; the model has layers 0 to {layers - 1}"
            )
        self._check_part(model)
        if self.point is not None and self.point not in known:
            reason = " (attention and MLP run in parallel)" if self.point.endswith("resid_mid") else ""
            raise InputError(f"the model has no {self.point}{reason}; {unknown('hook point', self.point, known)}")
        return self

    def _check_part(self, model: Any) -> None:
        """Refuse a part or a head that this block of the model does not have."""
        if self.layer is None or self.kind in ("state", "block", "span"):
            return
        from tl_nla.model.facts import branches_of
        from tl_nla.model.heads import out_projection

        branches_of(model, self.layer, {"head": self.part, "expert": "mlp"}.get(self.kind, self.kind))
        if self.expert is not None:
            from tl_nla.model.experts import mixture_of

            count = mixture_of(model, self.layer).count
            if self.expert >= count:
                raise InputError(f"expert of {str(self)!r} is out of range; the layer has experts 0 to {count - 1}")
        if self.head is not None:
            heads = out_projection(model, self.layer, self.part).heads
            if self.head >= heads:
                raise InputError(f"head of {str(self)!r} is out of range; the layer has heads 0 to {heads - 1}")
