"""Steering through words: rewrite an explanation, put the difference back into the state."""

from tl_nla._lazy import lazy
from tl_nla.steering.change import Change, change_states
from tl_nla.steering.rewriters import (
    Rewriter,
    append,
    compose,
    dry_run,
    expect,
    from_pipeline,
    outside_quotes,
    parse_rewrite,
    substitute,
    swap,
    without_quotes,
)
from tl_nla.steering.vectors import SteeringVector, mean_difference, random_direction, vector_from_words

__all__ = [
    "Change",
    "Rewriter",
    "SteeringVector",
    "append",
    "change_states",
    "compose",
    "dry_run",
    "expect",
    "from_pipeline",
    "mean_difference",
    "outside_quotes",
    "parse_rewrite",
    "random_direction",
    "substitute",
    "swap",
    "vector_from_words",
    "without_quotes",
]

__getattr__ = lazy(__name__)
