"""What notebooks show: small HTML tables of any texts, without script, style sheet or outside address."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from tl_nla.markdown import show

_MOST_ROWS = 30
_LIMIT = 400
_TEXT = "text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;max-width:60em"
_NUMBER = "text-align:right"


def table_html(head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", note: str = "") -> str:
    """A table of texts and numbers.

    Args:
        head: names of the columns.
        rows: their values; at most thirty rows are shown, and how many more there are is told.
        caption: a line above.
        note: a line below.

    Returns:
        HTML in which every text is escaped and cut to 400 characters.
    """
    names = "".join(f'<th style="text-align:left">{_text(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows[:_MOST_ROWS])
    more = f"{len(rows) - _MOST_ROWS} more rows. " if len(rows) > _MOST_ROWS else ""
    above = f"<p>{_text(caption)}</p>" if caption else ""
    below = f"<p><small>{_text(more + note)}</small></p>" if more or note else ""
    return f"<div>{above}<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>{below}</div>"


class Shown:
    """A dataclass that notebooks show as a table of one row."""

    def _repr_html_(self) -> str:
        return rows_html([self])


class Rows(list[Any]):
    """A list of dataclasses that notebooks show as a table; in all else a list."""

    def _repr_html_(self) -> str:
        return rows_html(self)


def rows_html(items: Iterable[Any]) -> str:
    """A table of dataclasses of one kind: a column a field, without those that are empty in every row."""
    rows = list(items)
    if not rows:
        return "<div><p>no rows</p></div>"
    names = [item.name for item in fields(rows[0]) if any(getattr(row, item.name) is not None for row in rows)]
    return table_html(names, [[getattr(row, name) for name in names] for row in rows])


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f'<td style="{_TEXT}">{_text(_told(value))}</td>'
    text = str(value) if isinstance(value, int) else f"{value:.3g}"
    return f'<td style="{_NUMBER}">{_text(text)}</td>'


def _told(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return ", ".join(_told(item) for item in value)
    return str(value)


def _text(text: str) -> str:
    return html.escape(show(text, _LIMIT)) if text else ""
