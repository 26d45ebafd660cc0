"""Other wordings of claims, and the way back.

The grammar of claims in use lists the forms of each type; the first is the one explanations are written in. Rewording a
claim says the same in other words, so claims can still be checked (:func:`canonical`). A reconstructor that reads
meaning should lose little.
"""

import functools
import re

from tl_nla.faithfulness.clauses import Clause, join_clauses, split_clauses
from tl_nla.faithfulness.grammar import grammar

_Pattern = tuple[str, int, "re.Pattern[str]"]


def _pattern(form: str, is_open: bool) -> "re.Pattern[str]":
    slot = "(?P<{}>.*)" if is_open else r"(?P<{}>\w+)"
    parts = re.split(r"(\{\w\})", form)
    pieces = [slot.format(part[1]) if part in ("{a}", "{b}") else re.escape(part) for part in parts]
    return re.compile("".join(pieces), re.DOTALL)


@functools.lru_cache(maxsize=8)
def _patterns(forms: tuple[tuple[str, tuple[str, ...]], ...], open_types: tuple[str, ...]) -> list[_Pattern]:
    return [(kind, number, _pattern(form, kind in open_types))
            for kind, wordings in forms for number, form in enumerate(wordings)]  # fmt: skip


def _known() -> list[_Pattern]:
    used = grammar()
    return _patterns(tuple((kind, tuple(forms)) for kind, forms in used.forms.items()), used.open_types)


def read_form(clause: str) -> tuple[str, int, dict[str, str]] | None:
    """Claim type, number of the form and slots of a clause; ``None`` for a clause in none of the forms."""
    for kind, number, pattern in _known():
        found = pattern.fullmatch(clause)
        if found is not None:
            return kind, number, found.groupdict()
    return None


def write_form(kind: str, number: int, slots: dict[str, str]) -> str:
    """A clause in the chosen form."""
    forms = grammar().forms[kind]
    form = forms[number % len(forms)]
    for name, value in slots.items():
        form = form.replace("{" + name + "}", value, 1)
    return form


def reword(clause: Clause | str, number: int) -> str:
    """The clause in form ``number``; as it is when it has none of the forms."""
    text = clause if isinstance(clause, str) else clause.text
    known = read_form(text)
    return text if known is None else write_form(known[0], number, known[2])


def canonical(text: str) -> str:
    """The text with every clause in its first form, so that its claims can be parsed and checked."""
    return join_clauses([reword(clause, 0) for clause in split_clauses(text)])
