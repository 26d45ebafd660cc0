"""Numbers of attribution with their words, as tables, Markdown, JSON, figures and TensorBoard, and head cards."""

from tl_nla._lazy import lazy

_HOMES = {
    "Cell": "tl_nla.reports.report",
    "ContributionReport": "tl_nla.reports.report",
    "HeadCards": "tl_nla.reports.heads.card",
    "HeadCardsConfig": "tl_nla.reports.heads.config",
    "ReportConfig": "tl_nla.reports.report_config",
    "head_cards": "tl_nla.reports.heads.make",
    "layer_contributions": "tl_nla.reports.contributions",
}

__all__ = sorted(_HOMES)

# TensorBoard's server loads this package and needs no torch: every name is imported when it is first asked for.
__getattr__ = lazy(__name__, _HOMES)
