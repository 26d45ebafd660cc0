"""Results as tables: rich for the terminal, Markdown for documents.

Arms go down and metrics across; the other way round where there are more metrics than arms.
"""

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
    first = _first_number(header)
    for number, name in enumerate(header):
        style = "bold" if number == first - 1 else ""
        table.add_column(Text(name), justify="left" if number < first else "right", style=style)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))  # Text: brackets of an interval are no markup
    return table


def to_markdown(results: Results) -> str:
    """The results as a Markdown table, preceded by nothing and ended by a line break."""
    header, lines = _grid(results.rows)
    first = _first_number(header)
    rule = ["---" if i < first else "---:" for i in range(len(header))]
    return "".join("| " + " | ".join(_escape(cell) for cell in line) + " |\n" for line in [header, rule, *lines])


def _grid(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells; columns of `_PLACE` that say the same in every row are left out."""
    places = [name for name in _PLACE if len({getattr(row, name) for row in rows}) > 1]
    arms = list(dict.fromkeys(row.arm for row in rows))
    metrics = list(dict.fromkeys(row.metric for row in rows))
    down, across = ("arm", "metric") if len(metrics) <= len(arms) else ("metric", "arm")
    columns = metrics if across == "metric" else arms
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        at = [getattr(row, name) for name in places]
        key = (*("all" if value is None else str(value) for value in at), getattr(row, down))
        cells.setdefault(key, {})[getattr(row, across)] = _cell(row)
    lines = [[*key, *(found.get(column, "") for column in columns)] for key, found in cells.items()]
    return [*places, down, *columns], lines


def _first_number(header: list[str]) -> int:
    """Number of the first column behind those that name the row."""
    return 1 + next(number for number, name in enumerate(header) if name not in _PLACE)


def _cell(row: Row) -> str:
    if row.ci_low is None or row.ci_high is None:
        return f"{row.value:.3f}"
    return f"{row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
