"""Words and punctuation marks of a text."""

import re

_WORD = re.compile(r"\w+|[^\w\s]")


def split_words(text: str) -> list[tuple[str, int, int]]:
    """Words and punctuation marks of ``text`` with their character spans."""
    return [(match.group(), match.start(), match.end()) for match in _WORD.finditer(text)]
