"""Other wordings of the embedded world's claims, in words that its models know, and the way back.

Four forms a claim type: the first is the one explanations are written in. Rewording a claim says the same in other
words, so claims can still be checked (:func:`canonical`), and a reconstructor that reads meaning should hardly mind.
"""

import re

from tl_nla.faithfulness.clauses import Clause, join_clauses, split_clauses

FORMS: dict[str, tuple[str, ...]] = {
    "recent": ('Recent words: "{a}".', 'The Last words: "{a}".', 'It reads "{a}".', 'The Recent words: "{a}".'),
    "next": ("Next: {a}.", "Next words: {a}.", "It promotes {a}.", "The Next words: {a}."),
    "who": ("This is about {a}.", "It is about {a}.", "This was about {a}.", "It was about {a}."),
    "where": ("{a} is at the {b}.", "{a} was at the {b}.", "{a} came to the {b}.", "{a} looked around the {b}."),
    "what": ("{a} has the {b}.", "{a} had the {b}.", "{a} carried the {b}.", "{a} held up the {b}."),
    "feeling": ("{a} feels {b}.", "{a} felt {b}.", "{a} was very {b}.", "{a} looked {b}."),
    "inside": ("The {a} is in the {b}.", "The {a} was in the {b}.", "The {a} stayed in the {b}.",
               "It reads the {a} in the {b}."),
    "colour": ("The {a} is {b}.", "The {a} was {b}.", "The {a} painted {b}.", "It is the {a} painted {b}."),
}  # fmt: skip


def _pattern(form: str, kind: str) -> "re.Pattern[str]":
    # The slots of recent words and guesses hold anything, those of facts one word.
    slot = "(?P<{}>.*)" if kind in ("recent", "next") else r"(?P<{}>\w+)"
    parts = re.split(r"(\{\w\})", form)
    pieces = [slot.format(part[1]) if part in ("{a}", "{b}") else re.escape(part) for part in parts]
    return re.compile("".join(pieces), re.DOTALL)


# Colours before places: "The cup was red." fits no other form, yet "It is about Tom." must not become a colour.
_PATTERNS = [
    (kind, number, _pattern(form, kind))
    for kind in ("recent", "who", "next", "where", "what", "inside", "feeling", "colour")
    for number, form in enumerate(FORMS[kind])
]


def read_form(clause: str) -> tuple[str, int, dict[str, str]] | None:
    """Claim type, number of the form and slots of a clause; ``None`` for a clause in none of the forms."""
    for kind, number, pattern in _PATTERNS:
        found = pattern.fullmatch(clause)
        if found is not None:
            return kind, number, found.groupdict()
    return None


def write_form(kind: str, number: int, slots: dict[str, str]) -> str:
    """A clause in the chosen form."""
    form = FORMS[kind][number % len(FORMS[kind])]
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
