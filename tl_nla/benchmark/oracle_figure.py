"""Figures of suites ``heads`` and ``spans``: what words carry by layer, along the training, and for every span."""

from collections.abc import Mapping, Sequence
from typing import Any

from tl_nla.benchmark.oracle_rows import KINDS, OracleRows
from tl_nla.benchmark.results import Row

_ARMS = {
    "explanation": "the oracle's words", "cat_and_explanation": "context and words", "cat": "raw context",
    "own_run": "raw context, by the model itself", "probe": "linear probe", "state": "words about the state before",
}  # fmt: skip
_REFINED = ("explanation", "cat_and_explanation", "cat", "state")
_CURVES = {"gold": "label text", "cat_and_explanation": "context and label text", "cat": "raw context"}


def draw_heads(
    rows: Sequence[Row], stored: Sequence[OracleRows], longer: Sequence[OracleRows], plateau: Sequence[OracleRows],
    path: str,
) -> None:  # fmt: skip
    """FVE of head writes by layer, and the learning curves: of the readers, of longer ones, of the own run's network.

    Hollow points are the same readers without their refinements, which the learning curves lack, too.

    Args:
        rows: of suite ``heads``.
        stored: with the learning curves.
        longer: of the readers that were trained longer (dashed).
        plateau: of the network on the model's own run on raw context (dotted).
        path: file to write; its ending chooses the format.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    with rc_context({"svg.hashsalt": "tl-nla", "font.size": 9}):
        figure = Figure(figsize=(8.5, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for place, (arm, label) in enumerate(_ARMS.items()):
            own, linear = (_by_layer(rows, arm, metric) for metric in ("fve", "fve/unrefined"))
            if linear and arm in _REFINED:
                places = [float(row.layer or 0) + 0.08 * (place - (len(_ARMS) - 1) / 2) for row in linear]
                left.plot(places, [row.value for row in linear], "o", markersize=4, fillstyle="none", color=f"C{place}")
            if own:
                spread = [[row.value - (row.ci_low or row.value) for row in own],
                          [(row.ci_high or row.value) - row.value for row in own]]  # fmt: skip
                places = [float(row.layer or 0) + 0.08 * (place - (len(_ARMS) - 1) / 2) for row in own]
                values = [row.value for row in own]
                left.errorbar(places, values, spread, fmt="o", markersize=4, linewidth=1, label=label,
                              color=f"C{place}")  # fmt: skip
        if any(row.metric == "fve/unrefined" for row in rows):
            left.plot([], [], "o", markersize=4, fillstyle="none", color="gray", label="without refinements")
        layers = sorted({row.layer for row in rows if row.layer is not None})
        left.set(xlabel="layer", ylabel="FVE of head writes", xticks=layers, ylim=(0, 1.03))
        for place, (arm, label) in enumerate(_CURVES.items()):
            for parts, style, name in ((stored, "-", label), (longer, "--", None), (plateau, ":", None)):
                for part in parts:
                    if arm in part.curves:
                        curve = part.curves[arm]
                        right.plot(curve[:, 0], curve[:, 1 + KINDS.index("head")], style, marker="o", markersize=3,
                                   linewidth=1, color=f"C{place}", label=name)  # fmt: skip
                    name = None
        for parts, style, name in ((longer, "--", "heads only, longer"), (plateau, ":", "through the model's own run")):
            if parts:
                right.plot([], [], style, color="gray", label=name)
        right.set_xscale("log", base=2)
        right.xaxis.set_major_formatter(ScalarFormatter())
        right.set(xlabel="steps of the reader", ylim=(0, 1))
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=7)
        figure.savefig(path, metadata=_no_date(path))


def _by_layer(rows: Sequence[Row], arm: str, metric: str) -> list[Row]:
    wanted = arm, metric, "heldout", None
    return [row for row in rows
            if (row.arm, row.metric, row.split, row.head) == wanted and row.layer is not None]  # fmt: skip


def draw_gap_map(gaps: Mapping[tuple[int, int], float], path: str) -> None:
    """What the words about a span add to words about the state before it, for every pair of layers.

    Args:
        gaps: (first block, last block) -> difference of FVE.
        path: file to write; its ending chooses the format.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    first = sorted({pair[0] for pair in gaps})
    last = sorted({pair[1] for pair in gaps})
    missing = float("nan")
    table = [[gaps.get((one, other), missing) for other in last] for one in first]
    with rc_context({"svg.hashsalt": "tl-nla", "font.size": 9}):
        figure = Figure(figsize=(3.8, 3.2), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(table, cmap="viridis", vmin=0)
        for (one, other), gap in gaps.items():
            ink = "black" if gap > max(gaps.values()) / 2 else "white"
            axes.text(last.index(other), first.index(one), f"{gap:.2f}", ha="center", va="center", color=ink)
        axes.set(xlabel="last block of the span", ylabel="first block", xticks=range(len(last)), xticklabels=last,
                 yticks=range(len(first)), yticklabels=first)  # fmt: skip
        figure.colorbar(image, label="gap in FVE")
        figure.savefig(path, metadata=_no_date(path))


def _no_date(path: str) -> dict[str, Any] | None:
    return {"Date": None} if path.endswith(".svg") else None
