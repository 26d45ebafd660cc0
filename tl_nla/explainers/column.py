"""Explanations that the documents bring: a column of a JSON-lines file or of a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

from tl_nla.errors import InputError
from tl_nla.explainers.base import Moment

COLUMN = "explanation"
POSITION = "position"
_LAST = -1


class ColumnExplainer:
    """Gives the explanations that stand beside the texts (:func:`explanations_of`).

    Only positions with an explanation are captured. Nothing is known to be true there.

    Args:
        column: that holds them.
    """

    def __init__(self, column: str = COLUMN) -> None:
        self.column = column
        self._known: dict[str, dict[int, str]] = {}

    def positions(self, document: Any, tokens: int) -> list[int]:
        """The explained tokens of a document, a begin token not counted.

        Raises:
            InputError: when a column cannot be read, or explains a token that the text does not have.
        """
        found: dict[int, str] = {}
        for position, text in (explanations_of(document.notes, document.id, self.column) or {}).items():
            place = position + tokens if position < 0 else position
            if not 0 <= place < tokens:
                raise InputError(
                    f"document {document.id!r} explains token {position}, but its text has {tokens} tokens; "
                    f"give positions from 0 to {tokens - 1}, or negative ones from the end"
                )
            found[place] = text
        self._known.setdefault(document.text, {}).update(found)
        return sorted(found)

    def __call__(self, text: str, moments: Sequence[Moment]) -> list[tuple[str, None]]:
        """The stored explanations.

        Raises:
            InputError: for a moment without one.
        """
        known = self._known.get(text, {})
        lacking = [moment.position for moment in moments if moment.position not in known]
        if lacking:
            raise InputError(f"the text {text[:40]!r} brings no explanation of token {lacking[0]}")
        return [(known[moment.position], None) for moment in moments]


def explanations_of(row: Mapping[str, Any], where: str, column: str = COLUMN) -> dict[int, str] | None:
    """The explanations in a row of a file, by token; ``None`` where there are none.

    Args:
        row: with ``column``, and perhaps ``position``.
        where: name of the row, for messages.
        column: holds one of these:

            - a text: it explains the last token, or the one in ``position``;
            - a list with a text or ``null`` for every token of the text;
            - a list of objects with ``position`` and ``explanation``.

    Raises:
        InputError: for anything else.
    """
    given = row.get(column)
    if given is None:
        return None
    if isinstance(given, str):
        return {_position(row.get(POSITION, _LAST), where): _filled(given, where)}
    if isinstance(given, list) and given and all(isinstance(item, Mapping) for item in given):
        return {_position(item.get(POSITION), where): _filled(item.get(COLUMN), where) for item in given}
    if isinstance(given, list):
        return {place: _filled(text, where) for place, text in enumerate(given) if text is not None}
    raise InputError(
        f"{where}: {column!r} holds {type(given).__name__}; give a text, a list with a text or null for every token, "
        f"or a list of objects with {POSITION!r} and {COLUMN!r}"
    )


def _position(found: Any, where: str) -> int:
    if isinstance(found, bool) or not isinstance(found, int):
        raise InputError(f"{where}: {POSITION!r} is {found!r}; give the number of a token, negative from the end")
    return found


def _filled(found: Any, where: str) -> str:
    if not isinstance(found, str) or not found.strip():
        raise InputError(f"{where}: an explanation is {found!r}; give a text, or leave it out")
    return found
