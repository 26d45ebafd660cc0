"""The figure of suite ``steering``: success against validity and against KL, one curve an arm."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from tl_nla.errors import InputError
from tl_nla.evaluation.steering_arms import SWEEP, SWEPT, named
from tl_nla.evaluation.steering_rows import SteeringRows
from tl_nla.outputs import check_file

_LABELS = {"edit_delta": "words, delta", "edit_replace": "words, replace", "caa": "mean difference (CAA)",
           "random_direction": "random direction"}  # fmt: skip


def curve(parts: Sequence[SteeringRows], arm: str, metric: str) -> list[float]:
    """Mean of a metric over prompts and seeds at each strength, weakest first, from no steering on."""
    keys = ["unsteered", *(named(arm, strength) for strength in sorted((1.0, *SWEEP)))]
    return [sum(float(part.values[metric][key].nanmean()) for part in parts) / len(parts) for key in keys]


def check_figure(path: str) -> None:
    """Refuse, before anything is computed, what cannot be drawn.

    Raises:
        InputError: when matplotlib is missing, the folder does not exist, or the ending names no format.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("--figure needs matplotlib: pip install 'tl-nla[plots]'")
    if not Path(path).absolute().parent.is_dir() or Path(path).suffix not in (".svg", ".png", ".pdf"):
        raise InputError(f"--figure {path!r}: give a file in an existing folder that ends in .svg, .png or .pdf")
    check_file(path)


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
