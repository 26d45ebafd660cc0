"""Figures of the steganography sweep: what FVE cost, and how true the words are across training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docs.studies.steganography.sweep_rows import Point, by_setting, joined
from tl_nla.benchmark.bootstrap import Interval
from tl_nla.errors import InputError

_DRAWN = {
    "cross_reconstructor_gap/trained": "FVE above that read by\nanother seed's reconstructor",
    "cross_reconstructor_gap/claims": "FVE above that read by\na reader of claims",
    "paraphrase_excess": "FVE lost by a paraphrase,\nabove what written words lose",
    "legibility_excess": "nats a token under the clean model,\nabove written words",
}
_COLOURS = ("#d55e00", "#e69f00", "#0072b2", "#009e73", "#555555")
_LINES = ("-", "--", ":", "-.")
_STYLE: Any = {"svg.hashsalt": "tl-nla", "font.size": 9}


def draw_frontier(points: Sequence[Point], path: Path) -> None:
    """FVE against each sign of a code, one line a setting from its warm start on, means over seeds.

    Colour is the warm start, line the KL weight, a hollow mark a paraphrased reward; a line begins at its square.

    Raises:
        InputError: when there is nothing to draw.
    """
    shown = [name for name in _DRAWN if any(name in point.measures for point in points)]
    if not shown:
        raise InputError("no points to draw; run the sweep first")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(3.6 * len(shown), 4.0), layout="constrained")
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for axis, name in zip(axes, shown, strict=True):
            _draw_lines(axis, points, name)
            axis.set(xlabel="FVE", title=_DRAWN[name])
        figure.legend(handles=_legend(points), loc="outside lower center", ncols=4, frameon=False)
        _save(figure, path)


def draw_precision(points: Sequence[Point], withheld: Sequence[tuple[float, float]], path: Path) -> None:
    """FVE against claim precision across training: warm starts by length, reinforcement learning, and withholding.

    Args:
        points: of the sweep.
        withheld: (FVE, precision) of a pair as it was and with unsure words withheld and its reconstructor trained on
            that; none to leave it out.
        path: file to write.

    Raises:
        InputError: when there is nothing to draw.
    """
    if not any("claim_precision" in point.measures for point in points):
        raise InputError("no points to draw; run the sweep first")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(8.0, 4.8), layout="constrained")
        axis = figure.subplots()
        starts = [p for p in _averages(points, "claim_precision") if p[1] == 0]
        line = sorted({(start[2].value, start[3].value) for start in starts})
        axis.plot(*zip(*line, strict=True), color="black", linewidth=2, alpha=0.3, label="warm starts, by length")
        _draw_lines(axis, points, "claim_precision", bars=True)
        if withheld:
            axis.annotate("", withheld[1], withheld[0], arrowprops={"arrowstyle": "->", "linewidth": 1.5})
            axis.text(*withheld[1], "unsure words withheld  ", va="center", ha="right")
            axis.plot(*withheld[1], "*", color="black", markersize=9)
        axis.set(xlabel="FVE", ylabel="claims that are true")
        figure.legend(handles=_legend(points), loc="outside lower center", ncols=4, frameon=False)
        _save(figure, path)


def _averages(points: Sequence[Point], name: str) -> list[tuple[Point, int, Interval, Interval]]:
    """Each setting and number of steps: a point of it, the steps, mean FVE and mean of the measure."""
    found = []
    for (_, steps), own in by_setting(points).items():
        fve, other = joined(own, "fve"), joined(own, name)
        if fve is not None and other is not None:
            found.append((own[0], steps, fve, other))
    return found


def _draw_lines(axis: Any, points: Sequence[Point], name: str, bars: bool = False) -> None:
    colours, lines = _colours(points), _lines(points)
    found = _averages(points, name)
    for setting in dict.fromkeys(point.run.setting() for point, *_ in found):
        own = sorted((one for one in found if one[0].run.setting() == setting), key=lambda one: one[1])
        run = own[0][0].run
        x, y = [one[2].value for one in own], [one[3].value for one in own]
        colour = colours[run.warm_steps]
        mark = {"marker": "o", "markersize": 3.5, "markerfacecolor": "white" if run.paraphrase else colour}
        wide = 1.0 if run.learning_rate == min(_rates(points)) else 2.0
        axis.plot(x, y, lines[run.kl_weight], color=colour, linewidth=wide, **mark)
        axis.plot(x[0], y[0], "s", color=colour, markersize=6, alpha=0.5)
        if bars:
            ends = [[one[3].value - one[3].low for one in own], [one[3].high - one[3].value for one in own]]
            axis.errorbar(x, y, yerr=ends, fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)


def _colours(points: Sequence[Point]) -> dict[int, str]:
    lengths = sorted({point.run.warm_steps for point in points})
    return {length: _COLOURS[place % len(_COLOURS)] for place, length in enumerate(lengths)}


def _lines(points: Sequence[Point]) -> dict[float, str]:
    weights = sorted({point.run.kl_weight for point in points})
    return {weight: _LINES[place % len(_LINES)] for place, weight in enumerate(weights)}


def _rates(points: Sequence[Point]) -> list[float]:
    return sorted({point.run.learning_rate for point in points})


def _legend(points: Sequence[Point]) -> list[Any]:
    from matplotlib.lines import Line2D

    legend = [Line2D([], [], color=c, label=f"warm start {n} steps") for n, c in _colours(points).items()]
    lines: dict[float, Any] = dict(_lines(points))
    legend += [Line2D([], [], color="black", linestyle=s, label=f"KL weight {w:g}") for w, s in lines.items()]
    if any(point.run.paraphrase for point in points):
        legend.append(Line2D([], [], color="black", marker="o", markerfacecolor="white", label="paraphrase rewarded"))
    if len(_rates(points)) > 1:
        low, *higher = _rates(points)
        label = f"rate {' or '.join(f'{rate:g}' for rate in higher)} instead of {low:g}"
        legend.append(Line2D([], [], color="black", linewidth=2, label=label))
    return legend


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
