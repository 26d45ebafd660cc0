"""Steering through words: rewrite an explanation, put the difference back into the state."""

from tl_nla._lazy import lazy
from tl_nla.steering.change import Change, change_states
from tl_nla.steering.judges import Judge, match_probability, perplexity, repetition, word_distance
from tl_nla.steering.leaks import Leak, leak, only, shuffled, words_told
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
    "Judge",
    "Leak",
    "Rewriter",
    "SteeringVector",
    "append",
    "change_states",
    "compose",
    "dry_run",
    "expect",
    "from_pipeline",
    "leak",
    "match_probability",
    "mean_difference",
    "only",
    "outside_quotes",
    "parse_rewrite",
    "perplexity",
    "random_direction",
    "repetition",
    "shuffled",
    "substitute",
    "swap",
    "vector_from_words",
    "without_quotes",
    "word_distance",
    "words_told",
]

__getattr__ = lazy(__name__)
