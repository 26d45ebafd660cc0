"""One forward pass, many sites: states, writes and per-head writes at the chosen positions only."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.decomposition import head_write_factor, head_writes, post_norm_points
from tl_nla.errors import InputError, unknown
from tl_nla.hooks import HookPair, tap
from tl_nla.positions import Positions, real_tokens, row_positions, select_positions
from tl_nla.sites import Site


@dataclass(frozen=True)
class Reading:
    """What was read; the rows of all sites are the same ``(batch, position)`` pairs in the same order.

    Attributes:
        sites: what was asked for.
        tokens: the token ids that were run.
        batch: row of the batch, for each of the n readings.
        position: number among the row's real tokens.
        column: column of ``tokens`` (differs from ``position`` under left padding only).
        values: activations at the hook points that were needed, ``[n, ...]``.
        factors: factors of the heads' writes by layer, as far as they were asked for.
    """

    model: Any = field(repr=False)
    sites: tuple[Site, ...]
    tokens: Int[Tensor, "batch pos"]
    batch: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    column: Int[Tensor, " n"]
    values: dict[str, Tensor] = field(repr=False)
    factors: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.batch)

    def __getitem__(self, site: Site | str) -> Float[Tensor, "n d_model"]:
        """The state or write at ``site``: detached, in the model's dtype.

        Raises:
            InputError: when the site was not read, or (heads) the heads' writes do not add up.
        """
        wanted = Site.parse(site)
        if wanted not in self.sites:
            raise unknown("site of this reading", wanted, [str(known) for known in self.sites])
        if wanted.kind == "head":
            return self._head(int(wanted.layer or 0), int(wanted.head or 0))
        return site_values(wanted, self.values)

    def before(self, site: Site | str) -> Float[Tensor, "n d_model"]:
        """The state that a write is added to (for a span its earlier state).

        Raises:
            InputError: for a state, which has nothing before it, or a site that was not read.
        """
        wanted = Site.parse(site)
        if wanted not in self.sites or not wanted.is_write:
            raise unknown("write of this reading", wanted, [str(known) for known in self.sites if known.is_write])
        return self.values[state_before(self.model, wanted)]

    def heads(self, layer: int) -> Float[Tensor, "n n_heads d_model"]:
        """Writes of all heads of a layer of which any head was read.

        Raises:
            InputError: when no head of the layer was read, or the heads' writes do not add up.
        """
        if f"blocks.{layer}.attn.hook_z" not in self.values:
            layers = dict.fromkeys(str(site.layer) for site in self.sites if site.kind == "head")
            raise unknown("layer of this reading's heads", layer, layers)
        factor = self._factor(layer)
        writes = head_writes(self.model, layer, self.values[f"blocks.{layer}.attn.hook_z"])
        return writes * (factor[:, None] if factor.ndim else factor)

    def _head(self, layer: int, head: int) -> Float[Tensor, "n d_model"]:
        z = self.values[f"blocks.{layer}.attn.hook_z"]
        return head_writes(self.model, layer, z, [head])[:, 0] * self._factor(layer)

    def _factor(self, layer: int) -> Tensor:
        """Checking that the heads add up costs as much as all their writes, so it is done once a layer."""
        if layer not in self.factors:
            z, write = (self.values[f"blocks.{layer}.{name}"] for name in ("attn.hook_z", "hook_attn_out"))
            self.factors[layer] = head_write_factor(self.model, layer, z, write, self.values)
        return self.factors[layer]


@torch.no_grad()
def read(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    sites: Sequence[Site | str],
    positions: Positions = "all",
    attention_mask: Tensor | None = None,
) -> Reading:
    """Read states and writes in one forward pass that stops after the last layer needed.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``; left exactly as it is found.
        tokens: token ids (not text: TransformerLens may add a begin token to text).
        sites: any number of sites.
        positions: see :func:`tl_nla.positions.select_positions`.
        attention_mask: 1 for tokens, 0 for padding, on either side.

    Returns:
        The reading; only the chosen positions were kept.

    Raises:
        InputError: for unknown sites or positions, an empty batch, or more tokens than the model's context.
    """
    known = model.hook_dict
    chosen_sites = tuple(Site.parse(site).validate(model, known) for site in sites)
    if not chosen_sites:
        raise InputError("no sites were given; name at least one, such as 'blocks.0.hook_resid_post'")
    check_length(model, tokens)
    mask = select_positions(tokens, positions, attention_mask, getattr(model, "tokenizer", None))
    values: dict[str, Tensor] = {}
    names = dict.fromkeys(name for site in chosen_sites for name in points_of(model, site, known))
    arguments: dict[str, Any] = {}
    if attention_mask is not None:
        arguments["attention_mask"] = attention_mask
    stop = stop_layer(model, chosen_sites)
    if stop is not None:
        arguments["stop_at_layer"] = stop
    with tap(model, [(name, _keeper(values, name, mask)) for name in names], known):
        model(tokens, **arguments)
    batch, column = torch.nonzero(mask, as_tuple=True)
    position = row_positions(real_tokens(tokens, attention_mask))[batch, column]
    return Reading(model, chosen_sites, tokens, batch, position, column, values)


def points_of(model: Any, site: Site, known: Collection[str] | None = None) -> list[str]:
    """Hook points that must be kept to compute a site and the state before it.

    Args:
        model: the TransformerLens model.
        site: what is to be read.
        known: ``model.hook_dict``, where it is at hand: bridges take milliseconds to build it.
    """
    known = model.hook_dict if known is None else known
    if site.kind == "state":
        return [str(site.point)]
    if site.kind == "span":
        return [str(site.start), str(site.end)]
    layer = f"blocks.{site.layer}"
    own = {
        "block": [f"{layer}.hook_resid_pre", f"{layer}.hook_resid_post"],
        "attn": [f"{layer}.hook_attn_out"],
        "mlp": [f"{layer}.hook_mlp_out"],
        "head": [f"{layer}.attn.hook_z", f"{layer}.hook_attn_out"],
    }[site.kind]
    if site.kind == "head":
        own = own + post_norm_points(model, int(site.layer or 0), known)
    return list(dict.fromkeys([state_before(model, site, known), *own]))


def state_before(model: Any, site: Site, known: Collection[str] | None = None) -> str:
    """Hook point of the state that a write is added to; ``known`` as for :func:`points_of`."""
    if site.kind == "span":
        return str(site.start)
    middle = f"blocks.{site.layer}.hook_resid_mid"
    if site.kind == "mlp" and middle in (model.hook_dict if known is None else known):
        return middle
    return f"blocks.{site.layer}.hook_resid_pre"


def site_values(site: Site, values: dict[str, Tensor]) -> Float[Tensor, "n d_model"]:
    """A state, a span or the write of a block or of a part of it, from the values of its hook points."""
    if site.kind == "state":
        return values[str(site.point)]
    if site.kind == "span":
        return values[str(site.end)] - values[str(site.start)]
    layer = f"blocks.{site.layer}"
    if site.kind == "block":
        return values[f"{layer}.hook_resid_post"] - values[f"{layer}.hook_resid_pre"]
    return values[f"{layer}.hook_{site.kind}_out"]


def stop_layer(model: Any, sites: Sequence[Site]) -> int | None:
    """Block before which the forward pass may stop, or ``None`` when all of it is needed."""
    last = [site.last_layer for site in sites]
    needed = [layer for layer in last if layer is not None]
    if len(needed) < len(last) or max(needed) + 1 >= int(model.cfg.n_layers):
        return None
    return max(needed) + 1


def check_length(model: Any, tokens: Tensor) -> None:
    """Refuse texts longer than the context.

    Raises:
        InputError: naming both lengths.
    """
    if tokens.ndim == 2 and tokens.shape[1] > int(model.cfg.n_ctx):
        raise InputError(f"the text has {tokens.shape[1]} tokens, the model's context {model.cfg.n_ctx}; shorten it")


def _keeper(values: dict[str, Tensor], name: str, mask: Bool[Tensor, "batch pos"]) -> Callable[..., None]:
    def keep(activation: Tensor, hook: Any) -> None:
        values[name] = activation.detach()[mask.to(activation.device)]

    return keep


def hook_pairs(model: Any, names: Sequence[str], keep: Callable[[str, Tensor], None]) -> list[HookPair]:
    """``(name, function)`` pairs that hand each activation to ``keep`` and change nothing."""

    def make(name: str) -> Callable[..., None]:
        def function(activation: Tensor, hook: Any) -> None:
            keep(name, activation.detach())

        return function

    known = model.hook_dict
    for name in names:
        if name not in known:
            raise unknown("hook point", name, known)
    return [(name, make(name)) for name in names]
