"""Suite ``heads``: do words carry what single attention heads (and MLPs) write, beyond what raw context tells?"""

import time
from typing import Any

from tl_nla.evaluation.oracle_suite import (
    ATTENTION_ARMS,
    add_arguments,
    all_arms,
    curve_rows,
    fve_rows,
    gather,
    increment_rows,
    untrained_parts,
)
from tl_nla.evaluation.results import Results

__all__ = ["add_arguments", "evaluate"]


def evaluate(model: str = "tiny", **options: Any) -> Results:
    """Run the suite.

    Args:
        model: ``"tiny"``, a local folder or a hub id; for others than ``"tiny"`` an oracle is trained first.
        options: see :func:`tl_nla.evaluation.oracle_suite.add_arguments`.

    Returns:
        FVE of every arm for heads, on average, by layer and by head; for the held-out heads; for MLPs (``fve/mlp``);
        increments over raw context; learning curves.
    """
    started = time.perf_counter()
    parts, definition = gather(model, **options)
    arms = [arm for arm in all_arms(parts) if arm not in ATTENTION_ARMS]
    both = [arm for arm in arms if arm.startswith("cat_and")]
    rows = fve_rows(parts, arms, "head", heads=True)
    rows += increment_rows(parts, both, "head") + increment_rows(parts, ["explanation"], "head", "fve/minus_cat")
    untrained = untrained_parts(model, parts)
    others = [arm for arm in all_arms(untrained) if arm not in ATTENTION_ARMS]
    rows += fve_rows(untrained, others, "head", split="heldout_heads")
    rows += fve_rows(parts, arms, "mlp", "fve/mlp") + increment_rows(parts, both, "mlp", "fve/mlp_increment")
    rows += curve_rows(parts, "head")
    definition |= {"untrained_heads": {str(part.seed): list(part.untrained) for part in untrained},
                   "fve/minus_cat": "FVE of the arm minus that of cat, on the same rows"}  # fmt: skip
    return Results("heads", model, [part.seed for part in parts], definition, rows, time.perf_counter() - started)
