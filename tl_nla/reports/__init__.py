"""Reports: the numbers of attribution with their words, as tables, Markdown, JSON, figures and TensorBoard."""

from tl_nla._lazy import lazy

_HOMES = {
    "Cell": "tl_nla.reports.report",
    "ContributionReport": "tl_nla.reports.report",
    "ReportConfig": "tl_nla.reports.report_config",
    "layer_contributions": "tl_nla.reports.contributions",
}

__all__ = sorted(_HOMES)

# TensorBoard's server loads this package and needs no torch: every name is imported when it is first asked for.
__getattr__ = lazy(__name__, _HOMES)
