"""Suite ``layers``: blocks, attentions and MLPs in words, directly and as the sum of the heads' words."""

import time

from tl_nla.benchmark.oracle_suite import (
    ATTENTION_ARMS,
    ScoredOracles,
    all_arms,
    curve_rows,
    fve_rows,
    increment_rows,
)
from tl_nla.benchmark.results import Results


def evaluate(scored: ScoredOracles) -> Results:
    """Run the suite.

    Returns:
        ``fve/block``, ``fve/attn`` and ``fve/mlp`` of every arm, on average and by layer. For attention also
        ``sum_of_heads``, and its increments over the direct reading and over raw context. Learning curves.
    """
    started = time.perf_counter()
    parts, definition = scored.parts, scored.definition
    arms = all_arms(parts)
    rows = []
    for kind in ("block", "attn", "mlp"):
        own = [arm for arm in arms if kind == "attn" or arm not in ATTENTION_ARMS]
        rows += fve_rows(parts, own, kind, f"fve/{kind}")
        both = [arm for arm in own if arm.startswith("cat_and")]
        rows += increment_rows(parts, both, kind, f"fve/{kind}_increment") + curve_rows(parts, kind, f"fve/{kind}")
    for base in ("explanation", "cat", "cat_long"):
        rows += increment_rows(parts, ["sum_of_heads"], "attn", f"fve/attn_minus_{base}", base)
    definition |= {
        "sum_of_heads": "all heads of the layer explained one by one, greedy, and their reconstructions (told sizes) "
        "added; heads that nothing was trained on are among them",
        "cat_long": "component and as many tokens of the raw text as the texts of all heads have together, read by a "
        "reconstructor trained on attentions alone",
        "fve/attn_minus_ARM": "FVE of sum_of_heads minus that of ARM on the same rows; cat has as many tokens as the "
        "direct explanation, cat_long as many as the sum's text",
    }
    return Results("layers", scored.model, scored.seeds, definition, rows, time.perf_counter() - started)
