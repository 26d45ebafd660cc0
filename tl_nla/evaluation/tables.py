"""Results as tables: rich for the terminal, Markdown for documents. Arms down, metrics across."""

from typing import TYPE_CHECKING

from tl_nla.evaluation.results import Results, Row

if TYPE_CHECKING:
    from rich.table import Table

_PLACE = ("split", "layer", "head")


def to_table(results: Results) -> "Table":
    """The results as a rich table; an interval stands behind its value in square brackets."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    header, lines = _grid(results.rows)
    table = Table(title=f"{results.suite} · {results.model}", box=box.SIMPLE_HEAD, header_style="bold")
    for number, name in enumerate(header):
        text = number < header.index("arm") + 1
        table.add_column(Text(name), justify="left" if text else "right", style="bold" if name == "arm" else "")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))  # Text: brackets of an interval are no markup
    return table


def to_markdown(results: Results) -> str:
    """The results as a Markdown table, preceded by nothing and ended by a line break."""
    header, lines = _grid(results.rows)
    first = header.index("arm") + 1
    rule = ["---" if i < first else "---:" for i in range(len(header))]
    return "".join("| " + " | ".join(_escape(cell) for cell in line) + " |\n" for line in [header, rule, *lines])


def _grid(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells; columns of `_PLACE` that say the same in every row are left out."""
    places = [name for name in _PLACE if len({getattr(row, name) for row in rows}) > 1]
    metrics = list(dict.fromkeys(row.metric for row in rows))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        at = [getattr(row, name) for name in places]
        key = (*("all" if value is None else str(value) for value in at), row.arm)
        cells.setdefault(key, {})[row.metric] = _cell(row)
    return [*places, "arm", *metrics], [[*key, *(found.get(m, "") for m in metrics)] for key, found in cells.items()]


def _cell(row: Row) -> str:
    if row.ci_low is None or row.ci_high is None:
        return f"{row.value:.3f}"
    return f"{row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
