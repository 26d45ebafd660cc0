"""Head cards: what each attention head of a model does over a corpus.

:func:`tl_nla.reports.head_cards` makes them; ``docs/heads.md`` says how each number is found.
"""

from tl_nla._lazy import lazy

_HOMES = {
    "Card": "tl_nla.reports.heads.card",
    "HeadCards": "tl_nla.reports.heads.card",
    "HeadCardsConfig": "tl_nla.reports.heads.config",
    "head_cards": "tl_nla.reports.heads.make",
    "log_head_cards": "tl_nla.reports.heads.tensorboard",
}

__all__ = sorted(_HOMES)
__getattr__ = lazy(__name__, _HOMES)
