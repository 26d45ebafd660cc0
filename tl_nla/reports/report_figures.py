"""Heat maps of a contribution report: layers by tokens, and layers by heads."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from tl_nla.errors import InputError
from tl_nla.markdown import show
from tl_nla.reports.report import Cell, ContributionReport

SIGNED, UNSIGNED = "PuOr_r", "cividis"
"""Colour maps that readers with any kind of colour vision can tell apart: purple to orange, and dark to light."""
MAX_TOKENS = 60
_LARGEST = (16.0, 13.0)
_MOST_NUMBERS = 450
_LABEL = 0.15
"""Inches that a label needs."""
_QUANTITY = {"logit": "logit", "difference": "logit difference", "log_prob": "log-probability (nats)"}


def figures(report: ContributionReport) -> dict[str, Any]:
    """Draw the report.

    Returns:
        ``direct/layer_token`` and ``skip/layer_token``, ``direct/layer_head`` and ``skip/layer_head``. In the first
        two, rows are embedding, attention and MLP of every layer. Columns are the reported positions, the last
        ``MAX_TOKENS`` of them. The other two are at the last reported position. Those of skips are left out of reports
        without skips.

    Raises:
        InputError: when matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError("figures need matplotlib; install it with: pip install 'tl-nla[plots]'") from error
    positions = report.positions[-MAX_TOKENS:]
    last = positions[-1]
    skipped = any(cell.skip_kl is not None for cell in report.cells)
    index = {(cell.layer, cell.component, cell.head, cell.position): cell for cell in report.cells}
    parts = _parts(report, last)
    names = [index[layer, kind, None, last].name for layer, kind in parts]
    columns = [_column(report, position) for position in positions]
    count = max((cell.head + 1 for cell in report.cells if cell.head is not None), default=0)
    heads = [f"head {head}" for head in range(count)] + ["MLP"]
    layers = [f"L{layer}" for layer in range(report.n_layers)]
    at = f"at {show(report.tokens[last])!r} → {show(report.targets[len(report.positions) - 1])!r}"
    drawn = {}
    for name, value, title, signed in _measures(report, skipped):
        rows = [[value(index[layer, kind, None, position]) for position in positions] for layer, kind in parts]
        chosen = slice(0 if name == "direct" else 1, None)
        drawn[f"{name}/layer_token"] = heat_map(rows[chosen], names[chosen], columns, title, signed)
        places = [("head", head) for head in range(count)] + [("mlp", None)]
        grid = [[value(index[layer, kind, head, last]) if (layer, kind, head, last) in index else 0.0
                 for kind, head in places] for layer in range(report.n_layers)]  # fmt: skip
        drawn[f"{name}/layer_head"] = heat_map(grid, layers, heads, f"{title}\n{at}", signed, numbers=True)
    return drawn


def _parts(report: ContributionReport, position: int) -> list[tuple[int, str]]:
    """Embedding, and of every layer its parts, or the whole block where it has none."""
    cells = report.at(position, ("embed", "attn", "mixer", "mlp", "ple", "block"))
    split = {cell.layer for cell in cells if cell.component not in ("embed", "block")}
    kept = [cell for cell in cells if cell.component != "block" or cell.layer not in split]
    return [(cell.layer, cell.component) for cell in kept]


def _measures(report: ContributionReport, skipped: bool) -> list[tuple[str, Callable[[Cell], float], str, bool]]:
    direct = f"direct contribution to the {_QUANTITY[report.target_kind]}"
    found: list[tuple[str, Callable[[Cell], float], str, bool]] = [("direct", lambda cell: cell.direct, direct, True)]
    if skipped:
        found.append(("skip", lambda cell: cell.skip_kl or 0.0, "KL when skipped here (nats)", False))
    return found


def _column(report: ContributionReport, position: int) -> str:
    return f"{show(report.tokens[position], 12)} → {show(report.targets[report.positions.index(position)], 12)}"


def heat_map(
    values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], title: str, signed: bool,
    numbers: bool = False,
) -> Any:  # fmt: skip
    """One heat map; large ones have a label for every few rows and columns only.

    Args:
        values: row by row.
        rows: labels of the rows.
        columns: labels of the columns; any text.
        title: what the colours mean.
        signed: whether zero is the middle of the colours, else their dark end.
        numbers: whether every value is written in its field, too, where they are not too many to be read.

    Returns:
        A ``matplotlib.figure.Figure`` that no pyplot state knows of.
    """
    from matplotlib.figure import Figure

    numbers = numbers and len(rows) * len(columns) <= _MOST_NUMBERS
    width = min(_LARGEST[0], max(4.5, 2.6 + (0.75 if numbers else 0.34) * len(columns)))
    height = min(_LARGEST[1], 1.7 + 0.34 * len(rows))
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    largest = max((abs(value) for row in values for value in row), default=0.0) or 1.0
    image = axes.imshow(
        values, aspect="auto", cmap=SIGNED if signed else UNSIGNED, vmin=-largest if signed else 0.0, vmax=largest
    )
    turned = 0 if numbers else 90
    across, down = _every(len(columns), width - 2.6), _every(len(rows), height - 1.7)
    axes.set_xticks(range(len(columns))[::across], [_drawable(text) for text in columns[::across]], rotation=turned,
                    fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(rows))[::down], [_drawable(text) for text in rows[::down]], fontsize=8)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    axes.set_title(_drawable(title), fontsize=9, loc="left", parse_math=False)
    figure.colorbar(image, ax=axes, pad=0.02)
    if numbers:
        for place, row in enumerate(values):
            for column, value in enumerate(row):
                dark = abs(value) > 0.6 * largest if signed else value < 0.5 * largest
                axes.text(column, place, f"{value:.2f}", ha="center", va="center", fontsize=7,
                          color="white" if dark else "black")  # fmt: skip
    return figure


def _every(count: int, inches: float) -> int:
    """Each how manieth label there is room for."""
    return max(1, math.ceil(count * _LABEL / max(inches, 1.0)))


def _drawable(text: str) -> str:
    """The text with a box for every character that the font lacks: matplotlib would warn about each."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(char if ord(char) in known or char == "\n" else "□" for char in text)
