"""The English words that labels may name; ``README.md`` beside this file says where they come from."""

import gzip
import re
from functools import cache
from importlib.resources import files

_LIST = "english.txt.gz"
_SHORT = 3
"""Words of up to so many letters come from the small list: the large one has every abbreviation."""
_ROMAN = re.compile(r"c{0,3}(xc|xl|l?x{0,3})(ix|iv|v?i{0,3})")


@cache
def english_words() -> frozenset[str]:
    """All of them, in small letters; proper names too."""
    text = gzip.decompress(files(__name__).joinpath(_LIST).read_bytes()).decode()
    return frozenset(text.split())


def listed(lines: list[str], small: list[str]) -> bytes:
    """The file of the words, made of large and of small lists; the same bytes whenever it is made.

    Args:
        lines: words of the large lists; possessives are left out.
        small: words of the small list.
    """
    long = {word.casefold() for word in lines if word.isalpha() and len(word) > _SHORT}
    short = {word for word in small if word.isalpha() and word.islower() and 1 < len(word) <= _SHORT}
    words = {word for word in long | short if not _ROMAN.fullmatch(word)} | {"a", "i"}
    return gzip.compress("\n".join(sorted(words)).encode(), 9, mtime=0)
