"""Results as tables: rich for the terminal, Markdown for documents.

Arms go down and metrics across; the other way round where there are more metrics than arms.
"""

from typing import TYPE_CHECKING

from tl_nla.benchmark.results import Results, Row
from tl_nla.markdown import table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_PLACE = ("split", "layer", "head")
_PADDING = 2


def to_table(results: Results, width: int | None = None) -> "Group":
    """The results for a terminal; an interval stands behind its value in square brackets.

    Args:
        results: what was measured.
        width: of the terminal in characters. A table that does not fit is cut into several with fewer columns each, so
            that no number is cut. ``None``: one table.
    """
    from rich.console import Group

    header, lines = _grid(results.rows)
    first = _first_number(header)
    widths = [max(len(line[column]) for line in [header, *lines]) + _PADDING for column in range(len(header))]
    groups = _columns_that_fit(widths, first, width)
    title = f"{results.suite} · {results.model}"
    return Group(*(_one_table(title, header, lines, first, columns) for columns in groups))


def _columns_that_fit(widths: list[int], first: int, width: int | None) -> list[list[int]]:
    """Columns of numbers, cut into groups that fit beside the columns that name the row; at least one a group."""
    room = None if width is None else width - sum(widths[:first]) - _PADDING
    groups: list[list[int]] = [[]]
    for column in range(first, len(widths)):
        taken = sum(widths[other] for other in groups[-1])
        if room is not None and groups[-1] and taken + widths[column] > room:
            groups.append([])
        groups[-1].append(column)
    return groups


def _one_table(title: str, header: list[str], lines: list[list[str]], first: int, columns: list[int]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, header_style="bold")
    for number in range(first):
        table.add_column(Text(header[number]), style="bold" if number == first - 1 else "", overflow="fold")
    for number in columns:
        table.add_column(Text(header[number]), justify="right", overflow="fold")
    for line in lines:
        # An arm that has no number in these columns would be an empty line.
        if any(line[column] for column in columns):
            table.add_row(*(Text(line[column]) for column in [*range(first), *columns]))
    return table


def to_markdown(results: Results) -> str:
    """The results as a Markdown table, preceded by nothing and ended by a line break."""
    header, lines = _grid(results.rows)
    return table(header, lines, _first_number(header))


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
