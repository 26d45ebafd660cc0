"""Evaluation: intervals, the results contract, and the suites."""

from tl_nla._lazy import lazy
from tl_nla.benchmark.bootstrap import Interval, fve_interval, mean_interval, ratio_interval, statistic_interval
from tl_nla.benchmark.results import Results, Row, read_results, versions

__all__ = [
    "Interval",
    "Results",
    "Row",
    "fve_interval",
    "mean_interval",
    "ratio_interval",
    "read_results",
    "statistic_interval",
    "versions",
]

__getattr__ = lazy(__name__)
