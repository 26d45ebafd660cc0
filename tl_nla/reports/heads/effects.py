"""When heads matter: what changes when each is left out at a position, and what each writes into the next token."""

import random
from typing import Any

import torch
from torch import Tensor

from tl_nla.attribution.capture import capture
from tl_nla.attribution.components import Component
from tl_nla.attribution.direct import Asked, attribute_run
from tl_nla.attribution.left_out import may_keep_columns
from tl_nla.model.facts import facts_of
from tl_nla.model.probe import device_of
from tl_nla.reports.contribution_skips import skips_of
from tl_nla.reports.heads.config import HeadCardsConfig
from tl_nla.reports.heads.texts import Texts

NAMES = ("kl", "change", "direct")


def head_components(heads: dict[int, int]) -> list[Component]:
    """All heads, layer by layer."""
    return [Component("head", layer, head, layer) for layer, count in heads.items() for head in range(count)]


def effect_columns(texts: Texts, number: int, config: HeadCardsConfig) -> list[int]:
    """Positions of a document at which heads are left out: such as have a next token, the first ones left aside."""
    places = range(2, len(texts.ids[number]) - 1)
    drawn = random.Random(f"effects/{config.seed}/{number}")
    return sorted(drawn.sample(places, min(config.positions, len(places))))


def head_effects(
    model: Any, texts: Texts, number: int, heads: dict[int, int], config: HeadCardsConfig
) -> dict[str, Tensor]:
    """Effects of all heads on one document.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        texts: the documents.
        number: which of them.
        heads: how many each layer has.
        config: how many positions.

    Returns:
        ``kl`` (nats), ``change`` and ``direct``, each ``[head, position]``. ``change`` is of the next token's
        log-probability, without the head minus with it. ``direct`` is what its write adds to that log-probability by
        itself (to the logit where logits are capped). Skips are missing where the model permits none.

    Raises:
        InputError: when nothing can be attributed on this model.
    """
    columns = effect_columns(texts, number, config)
    # Later tokens change nothing at the columns.
    ids = torch.tensor(texts.ids[number][: columns[-1] + 2], device=device_of(model))[None]
    targets = ids[:, [column + 1 for column in columns]]
    few = may_keep_columns(model, columns, ids.shape[1])
    run = capture(model, ids, solve=not few, columns=columns if few else None)
    view = run.only(columns) if run.columns is None else run
    quantity = "logit" if facts_of(model).readout.cap is not None else "log_prob"
    asked = Asked(targets, None, quantity, "head")
    asked.check(model)
    direct = attribute_run(model, view, asked, float("inf"))
    parts = head_components(heads)
    named = dict(zip(direct.labels, direct.values[:, 0], strict=True))
    nothing = torch.full((len(columns),), float("nan"))
    found = {"direct": torch.stack([named.get(str(part), nothing).float().cpu() for part in parts])}
    skips = skips_of(model, ids, (run, view), parts, targets, lambda stage, share: None)
    if skips.effects is not None and skips.effects.target_change is not None:
        found |= {"kl": skips.effects.kl[:, 0].cpu(), "change": skips.effects.target_change[:, 0].cpu()}
    return found
