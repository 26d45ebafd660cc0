"""Text in Markdown: what a model, a user or an error said, so that it breaks no table and runs no HTML."""

import re
import unicodedata
from collections.abc import Sequence

CELL_LIMIT = 400
"""Longest text of one table cell in characters."""
_PLAIN = re.compile(r"[\\`*_{}\[\]#+!~$]")
_BREAKS = re.compile(r"\r\n?|\n")
_ENTITIES = {"|": "&#124;", "<": "&lt;", ">": "&gt;", "&": "&amp;"}
_VISIBLE = {"\n": "⏎", "\r": "␍", "\t": "⇥"}


def cell(text: str) -> str:
    """A name or number of our own as the content of one Markdown table cell.

    Pipes and line breaks become entities. All else stays, since brackets, links and code are meant there.

    Args:
        text: what no model or user wrote; for their texts use :func:`escape`.

    Example:
        >>> cell("KL(clean || rebuilt) [0.1, 0.2]")
        'KL(clean &#124;&#124; rebuilt) [0.1, 0.2]'
    """
    return _BREAKS.sub("&#10;", text.replace("|", _ENTITIES["|"]))


def table(header: Sequence[str], lines: Sequence[Sequence[str]], names: int | None = None) -> str:
    """A Markdown table of names and numbers of our own; columns behind the first ``names`` stand on the right."""
    named = len(header) if names is None else names
    rule = ["---" if number < named else "---:" for number in range(len(header))]
    return "".join("| " + " | ".join(cell(text) for text in line) + " |\n" for line in [header, rule, *lines])


def escape(text: str, limit: int = CELL_LIMIT) -> str:
    """Any text as the content of one Markdown table cell.

    Line breaks, tabs and other control characters become visible signs, half surrogates the replacement character.
    Marks that turn the direction of writing are dropped. Everything that Markdown or HTML would read is escaped.

    Args:
        text: any string, also one that is no valid Unicode.
        limit: characters kept before escaping; the rest is told by its number.
    """
    kept = "".join(_sign(char) for char in text[:limit])
    safe = "".join(_ENTITIES.get(char, char) for char in _PLAIN.sub(r"\\\g<0>", kept))
    return safe if len(text) <= limit else f"{safe}… ({len(text) - limit} more)"


def visible(text: str) -> str:
    """A text whose line breaks and other control characters are signs that can be seen, unescaped."""
    return "".join(_sign(char) for char in text)


def show(token: str, limit: int = 40) -> str:
    """A token for human eyes, unescaped: a leading space shown as such, control characters visible, length capped."""
    shown = "".join(_sign(char) for char in token[:limit]) + ("…" if len(token) > limit else "")
    return "␣" + shown[1:] if shown[:1] == " " else shown or "∅"


def _sign(char: str) -> str:
    if char in _VISIBLE:
        return _VISIBLE[char]
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"
    if category in ("Zl", "Zp"):
        return "⏎"
    if category == "Cc":
        return "\ufffd"
    return "" if category == "Cf" else char
