"""Explanations as clauses: the units that are deleted, falsified, reordered and withheld.

Works on any text: a clause is a sentence or a line, and marks inside quotation marks end nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tl_nla.faithfulness.grammar import parse_claims

_ENDS = ".!?"
OTHER = "other"


@dataclass(frozen=True)
class Clause:
    """One clause of a text.

    Attributes:
        text: the clause without surrounding white space.
        start: index of its first character.
        end: one past its last character.
    """

    text: str
    start: int
    end: int

    @property
    def kind(self) -> str:
        """Type of the claims that the clause makes, ``"other"`` when it makes none or those of several types."""
        kinds = {claim.type for claim in parse_claims(self.text)}
        return kinds.pop() if len(kinds) == 1 else OTHER


def split_clauses(text: str) -> list[Clause]:
    """Take any text apart at the ends of its sentences and lines.

    Args:
        text: any text. Quotation marks ``"`` are taken in pairs within a line; an end mark inside a pair, or not
            followed by white space, ends nothing.

    Returns:
        Its clauses in order; joined by spaces they give the text back up to white space.
    """
    clauses, start, quoted = [], 0, False
    for place, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        last = place + 1 == len(text)
        stop = char in _ENDS and not quoted and (last or text[place + 1].isspace())
        if stop or char == "\n" or last:
            piece = text[start : place + 1]
            stripped = piece.strip()
            if stripped:
                first = start + len(piece) - len(piece.lstrip())
                clauses.append(Clause(stripped, first, first + len(stripped)))
            start = place + 1
            quoted = quoted and char != "\n"
    return clauses


def join_clauses(clauses: Sequence[Clause | str]) -> str:
    """Clauses as one text, separated by spaces."""
    return " ".join(clause if isinstance(clause, str) else clause.text for clause in clauses)


def quoted_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of what stands in paired quotation marks, the marks left out; pairs end with the line."""
    spans, opened = [], None
    for place, char in enumerate(text):
        if char == "\n":
            opened = None
        elif char == '"':
            if opened is not None:
                spans.append((opened, place))
            opened = place + 1 if opened is None else None
    return spans
