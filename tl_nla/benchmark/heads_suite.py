"""Suite ``heads``: do words carry what single attention heads (and MLPs) write, beyond what raw context tells?"""

import time

from tl_nla.benchmark.figures import check_figure
from tl_nla.benchmark.oracle_figure import draw_heads
from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.oracle_suite import (
    ATTENTION_ARMS,
    ScoredOracles,
    all_arms,
    curve_rows,
    fve_rows,
    increment_rows,
    trained_on_them,
)
from tl_nla.benchmark.results import Results, Row


def evaluate(scored: ScoredOracles, figure: str | None = None) -> Results:
    """Run the suite.

    Returns:
        FVE of every arm for heads, on average, by layer and by head. For the held-out heads. For MLPs (``fve/mlp``).
        Increments over raw context. Learning curves. The same of readers without their refinements (``fve/unrefined``)
        and of readers trained longer (``fve/longer``). The same of a network on the model's own run on raw context
        (``fve/plateau``).
    """
    if figure is not None:
        check_figure(figure)
    started = time.perf_counter()
    parts, definition = scored.parts, scored.definition
    arms = [arm for arm in all_arms(parts) if arm not in ATTENTION_ARMS]
    both = [arm for arm in arms if arm.startswith("cat_and")]
    rows = fve_rows(parts, arms, "head", heads=True)
    rows += increment_rows(parts, both, "head") + increment_rows(parts, ["explanation"], "head", "fve/minus_cat")
    untrained = scored.without_heads
    others = [arm for arm in all_arms(untrained) if arm not in ATTENTION_ARMS]
    rows += fve_rows(untrained, others, "head", split="heldout_heads")
    rows += fve_rows(trained_on_them(parts, untrained), others, "head", "fve/trained_on", "heldout_heads")
    rows += fve_rows(parts, arms, "mlp", "fve/mlp") + increment_rows(parts, both, "mlp", "fve/mlp_increment")
    rows += curve_rows(parts, "head")
    linear = [part.unrefined() for part in parts if part.unrefined() is not part]
    for name, beside in (("fve/unrefined", linear), ("fve/longer", scored.longer), ("fve/plateau", scored.plateau)):
        rows += _rows_beside(beside, name)
    if figure is not None:
        draw_heads(rows, parts, scored.longer, scored.plateau, figure)
    definition |= {"fve/longer": "readers of heads only, trained for as many steps as their curves fve/longer/step_N "
                   "end at, each point of which is a training of its own; each row is read about once; explanation is "
                   "the oracle's words through the longer reader of labels",
                   "fve/longer_increment": "FVE of the arm minus that of cat, both trained longer, on the same rows",
                   "fve/unrefined": "the same readers without the networks behind their linear heads; the learning "
                   "curves fve/step_N are theirs",
                   "fve/unrefined_increment": "FVE of the arm minus that of cat, both without refinements",
                   "fve/plateau": "one network that reads raw context through the model's own run on it, the oracle's "
                   "words through its reconstructor, or both; scores by steps are trainings of their own",
                   "fve/plateau_increment": "FVE of the arm minus that of cat, both by that network",
                   "fve/trained_on": "the same heads' writes by the oracle of the same seed that was trained on them",
                   "untrained_heads": {str(part.seed): list(part.untrained) for part in untrained},
                   "fve/minus_cat": "FVE of the arm minus that of cat, on the same rows"}  # fmt: skip
    return Results("heads", scored.model, scored.seeds, definition, rows, time.perf_counter() - started)


def _rows_beside(parts: list[OracleRows], name: str) -> list[Row]:
    """FVE, increments over raw context and learning curves of readers that are none of the stored oracle's."""
    arms = [arm for arm in all_arms(parts) if arm not in ATTENTION_ARMS]
    both = [arm for arm in arms if arm.startswith("cat_and")]
    rows = fve_rows(parts, arms, "head", name)
    rows += increment_rows(parts, [*both, "explanation"], "head", f"{name}_increment")
    return rows + curve_rows(parts, "head", name)
