"""The figure of suite ``steering``: success against validity and against KL, one curve an arm."""

from collections.abc import Sequence

from docs.studies.steering.arms import SWEEP, SWEPT, named
from docs.studies.steering.score import SteeringRows

_LABELS = {"edit_delta": "words, delta", "edit_replace": "words, replace", "caa": "mean difference (CAA)",
           "random_direction": "random direction"}  # fmt: skip


def curve(parts: Sequence[SteeringRows], arm: str, metric: str) -> list[float]:
    """Mean of a metric over prompts and seeds at each strength, weakest first, from no steering on."""
    keys = ["unsteered", *(named(arm, strength) for strength in sorted((1.0, *SWEEP)))]
    return [sum(float(part.values[metric][key].nanmean()) for part in parts) / len(parts) for key in keys]


def draw(parts: Sequence[SteeringRows], path: str) -> None:
    """Draw the curves.

    Args:
        parts: scores of each seed.
        path: file to write; its ending chooses the format.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "tl-nla", "font.size": 9}):
        figure = Figure(figsize=(8.5, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for arm, marker in zip(SWEPT, "os^x", strict=True):
            success = curve(parts, arm, "success")
            style = {"marker": marker, "markersize": 5, "linewidth": 1.2, "alpha": 0.8, "label": _LABELS[arm]}
            left.plot(curve(parts, arm, "validity"), success, **style)
            right.plot(curve(parts, arm, "kl"), success, **style)
        left.set(xlabel="stories without an ungrammatical sentence", ylabel="target is the next word", xlim=(0, 1.03))
        right.set(xlabel="nats from the unsteered next-token distribution")
        right.legend(frameon=False, loc="center right")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
