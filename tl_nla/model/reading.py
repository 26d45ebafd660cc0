"""One forward pass, many sites: states, writes, and writes of heads and experts at the chosen positions only."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.errors import InputError, unknown
from tl_nla.model.experts import ExpertSum, solve_experts, watch_mixtures
from tl_nla.model.facts import block_form, branches_of, check_deterministic, facts_of
from tl_nla.model.heads import HeadSum, out_projection, solve_heads
from tl_nla.model.hooks import HookPair, tap
from tl_nla.model.narrow import unread_logits
from tl_nla.model.positions import Positions, real_tokens, row_positions, select_positions, warn_of_padding
from tl_nla.model.probe import lock_of
from tl_nla.model.sites import Site, parse_sites
from tl_nla.notebook import table_html


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
        sums: the writes as sums of their heads, by layer and part, as far as they were asked for.
        routed: what entered the experts of mixtures, by layer.
        mixed: the writes of mixtures as sums of their experts, by layer, as far as they were asked for.
    """

    model: Any = field(repr=False)
    sites: tuple[Site, ...]
    tokens: Int[Tensor, "batch pos"]
    batch: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    column: Int[Tensor, " n"]
    values: dict[str, Tensor] = field(repr=False)
    sums: dict[tuple[int, str], HeadSum] = field(default_factory=dict, repr=False)
    routed: dict[int, dict[str, Tensor]] = field(default_factory=dict, repr=False)
    mixed: dict[int, ExpertSum] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.batch)

    def _repr_html_(self) -> str:
        rows = [(str(site), "write" if site.is_write else "state", f"{len(self)} × {self.model.cfg.d_model}")
                for site in self.sites]  # fmt: skip
        texts = len(self.batch.unique())
        return table_html(("site", "kind", "shape"), rows, f"Reading of {len(self)} positions in {texts} texts")

    def __getitem__(self, site: Site | str) -> Float[Tensor, "n d_model"]:
        """The state or write at ``site``: detached, in the model's precision.

        Raises:
            InputError: when the site was not read, or the writes of heads or experts do not add up.
        """
        return self.precise(site).to(next(iter(self.values.values())).dtype)

    def precise(self, site: Site | str) -> Float[Tensor, "n d_model"]:
        """The same without a last rounding: what is computed (heads, experts, multiples) stays in float32.

        Raises:
            InputError: as for ``reading[site]``.
        """
        wanted = Site.parse(site)
        if wanted not in self.sites:
            raise unknown("site of this reading", wanted, [str(known) for known in self.sites])
        if wanted.kind == "head":
            return self.sum_of_heads(int(wanted.layer or 0), wanted.part).writes([int(wanted.head or 0)])[:, 0]
        if wanted.kind == "expert":
            return self.experts(int(wanted.layer or 0)).writes([int(wanted.expert or 0)])[:, 0]
        return site_values(self.model, wanted, self.values)

    def before(self, site: Site | str) -> Float[Tensor, "n d_model"]:
        """The state that a write is added to (for a span its earlier state).

        Raises:
            InputError: for a state, which has nothing before it, or a site that was not read.
        """
        wanted = Site.parse(site)
        if wanted not in self.sites or not wanted.is_write:
            raise unknown("write of this reading", wanted, [str(known) for known in self.sites if known.is_write])
        return self.values[state_before(self.model, wanted)]

    def heads(self, layer: int, part: str = "attn") -> Float[Tensor, "n n_heads d_model"]:
        """Writes of all heads of a layer of which any head was read, in the model's precision.

        Args:
            layer: the block.
            part: whose heads, ``attn`` or ``mixer``.

        Raises:
            InputError: when no head of the layer was read, or the heads' writes do not add up.
        """
        known = [(site.layer, site.part) for site in self.sites if site.kind == "head"]
        if (layer, part) not in known:
            raise unknown("layer of this reading's heads", layer, dict.fromkeys(str(number) for number, _ in known))
        return self.sum_of_heads(layer, part).writes().to(next(iter(self.values.values())).dtype)

    def sum_of_heads(self, layer: int, part: str = "attn") -> HeadSum:
        """A write as the sum of its heads, with the figure of how well they add up.

        Checking that the heads add up costs as much as all their writes, so it is done once a layer.
        """
        if (layer, part) not in self.sums:
            self.sums[layer, part] = head_sum(self.model, layer, part, self.values)
        return self.sums[layer, part]

    def experts(self, layer: int) -> ExpertSum:
        """A mixture's write as the sum of its experts: which the router chose, what each wrote, and the rest.

        Args:
            layer: a block of which any expert was read.

        Raises:
            InputError: when no expert of the layer was read, or the experts' writes do not add up.
        """
        if layer not in self.routed:
            raise unknown("layer of this reading's experts", layer, [str(number) for number in self.routed])
        if layer not in self.mixed:
            self.mixed[layer] = solve_experts(self.model, layer, self.routed[layer], self.values)
        return self.mixed[layer]


@torch.no_grad()
def read(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    sites: Site | str | Sequence[Site | str],
    positions: Positions = "all",
    attention_mask: Tensor | None = None,
    also: Sequence[HookPair] = (),
) -> Reading:
    """Read states and writes in one forward pass that stops after the last layer needed.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``; left exactly as it is found.
        tokens: token ids (not text: TransformerLens may add a begin token to text).
        sites: one site, or any number of them.
        positions: see :func:`tl_nla.model.positions.select_positions`.
        attention_mask: 1 for tokens, 0 for padding, on either side. Without one every column counts as a token; a
            warning says when that looks wrong.
        also: hook names and functions that watch the same pass.

    Returns:
        The reading; only the chosen positions were kept.

    Raises:
        InputError: for unknown sites or positions, an empty batch, more tokens than the model's context, ids out of the
            vocabulary, or a model that drops out activations at random.
    """
    facts_of(model)  # whether the model can be run at all, before anything else
    check_deterministic(model)
    known = model.hook_dict
    chosen_sites = tuple(site.validate(model, known) for site in parse_sites(sites))
    check_tokens(model, tokens)
    tokenizer = getattr(model, "tokenizer", None)
    mask = select_positions(tokens, positions, attention_mask, tokenizer)
    if attention_mask is None and not isinstance(positions, Tensor):  # a mask of positions says what it means
        warn_of_padding(tokens, mask, tokenizer)
    values: dict[str, Tensor] = {}
    # Heads of a layer, and experts, are read from the same points.
    alike = dict.fromkeys(replace(site, head=0 if site.kind == "head" else None, expert=None) if site.kind in
                          ("head", "expert") else site for site in chosen_sites)  # fmt: skip
    names = dict.fromkeys(name for site in alike for name in _points(model, site, known))
    mixtures = sorted({int(site.layer or 0) for site in chosen_sites if site.kind == "expert"})
    routed: dict[int, dict[str, Tensor]] = {}
    arguments: dict[str, Any] = {}
    if attention_mask is not None:
        arguments["attention_mask"] = attention_mask
    stop = stop_layer(model, chosen_sites)
    if stop is not None:
        arguments["stop_at_layer"] = stop
    pairs: list[HookPair] = [*((name, _keeper(values, name, mask)) for name in names), *also]
    # Hooks are the model's, not the thread's.
    with lock_of(model), tap(model, pairs, known), watch_mixtures(model, mixtures, mask, routed), unread_logits(model):
        model(tokens, **arguments)
    if missing := [name for name in names if name not in values]:
        site = next(site for site in chosen_sites if missing[0] in _points(model, site, known))
        raise InputError(f"{missing[0]} never fires on this model as it is run here, so {site} cannot be read")
    batch, column = torch.nonzero(mask, as_tuple=True)
    position = row_positions(real_tokens(tokens, attention_mask))[batch, column]
    return Reading(model, chosen_sites, tokens, batch, position, column, values, routed=routed)


def _points(model: Any, site: Site, known: Collection[str]) -> list[str]:
    return points_of(model, Site("mlp", site.layer) if site.kind == "expert" else site, known)


def points_of(model: Any, site: Site, known: Collection[str] | None = None) -> list[str]:
    """Hook points that must be kept to compute a site and the state before it.

    Args:
        model: the TransformerLens model.
        site: what is to be read.
        known: ``model.hook_dict``, where it was built already: bridges take milliseconds to build it.

    Raises:
        InputError: for an expert, whose write takes more than hook points.
    """
    known = model.hook_dict if known is None else known
    if site.kind == "expert":
        raise InputError(f"{site} is read by tl_nla.read alone; here, take the whole write 'blocks.{site.layer}.mlp'")
    if site.kind == "state":
        return [str(site.point)]
    if site.kind == "span":
        return [str(site.start), str(site.end)]
    layer = int(site.layer or 0)
    if site.kind == "block":
        return [f"blocks.{layer}.hook_resid_pre", f"blocks.{layer}.hook_resid_post"]
    part = site.part if site.kind == "head" else site.kind
    own = [branch.point for branch in branches_of(model, layer, part)[1]]
    inner = [out_projection(model, layer, part).point] if site.kind == "head" else []
    return list(dict.fromkeys([state_before(model, site, known), *inner, *own]))


def state_before(model: Any, site: Site, known: Collection[str] | None = None) -> str:
    """Hook point of the state that a write is added to; ``known`` as for :func:`points_of`."""
    if site.kind == "span":
        return str(site.start)
    middle = f"blocks.{site.layer}.hook_resid_mid"
    if site.kind in ("mlp", "expert") and middle in (model.hook_dict if known is None else known):
        return middle
    return f"blocks.{site.layer}.hook_resid_pre"


def site_values(model: Any, site: Site, values: Mapping[str, Tensor]) -> Float[Tensor, "n d_model"]:
    """A state, a span or the write of a block or of a part of it, from the values of its hook points."""
    if site.kind == "state":
        return values[str(site.point)]
    if site.kind == "span":
        return _difference(values[str(site.end)], values[str(site.start)])
    layer = int(site.layer or 0)
    if site.kind == "block":
        return _difference(values[f"blocks.{layer}.hook_resid_post"], values[f"blocks.{layer}.hook_resid_pre"])
    return block_form(model, layer).write(site.kind, values)


def head_sum(model: Any, layer: int, part: str, values: Mapping[str, Tensor]) -> HeadSum:
    """A part's write as the sum of its heads, from the values of :func:`points_of`, one row a position.

    Raises:
        InputError: when the part consists of several tensors, or its heads do not add up to its write.
    """
    form, branches = branches_of(model, layer, part)
    if len(branches) != 1:
        raise InputError(f"blocks.{layer}.{part} is added in {len(branches)} pieces, so it has no heads; read it whole")
    projection = out_projection(model, layer, part)
    write = values[branches[0].point]
    return solve_heads(model, projection, values[projection.point], write, branches[0].factor * form.carry)


def _difference(later: Tensor, earlier: Tensor) -> Tensor:
    return later.float() - earlier.to(later.device).float()


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


def check_tokens(model: Any, tokens: Tensor) -> None:
    """Refuse what are no token ids of the model, and texts longer than its context.

    Raises:
        InputError: saying what was found.
    """
    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.dtype == torch.bool:
        found = f"a tensor of {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InputError(f"tokens must be integer ids [batch, pos]; found {found} (model.to_tokens makes them of text)")
    check_length(model, tokens)
    vocab = int(model.cfg.d_vocab)
    if tokens.numel() and not bool(((tokens >= 0) & (tokens < vocab)).all()):
        raise InputError(f"token ids must lie in 0 to {vocab - 1}; found {int(tokens.min())} to {int(tokens.max())}")


def _keeper(values: dict[str, Tensor], name: str, mask: Bool[Tensor, "batch pos"]) -> Callable[..., None]:
    def keep(activation: Tensor, hook: Any) -> None:
        values[name] = activation.detach()[mask.to(activation.device)]

    return keep
