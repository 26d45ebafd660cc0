"""Plain paragraphs out of the formats that packages hold text in: one function a format, from a file to documents."""

import ast
import csv
import gzip
import re
import struct
import sysconfig
import zlib
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

_BLOCKS = {"p", "li", "div", "td", "dd", "dt", "title", "h1", "h2", "h3", "h4", "item", "section"}
_UNREAD = {"script", "style", "pre", "head", "info", "code", "screen", "comment", "table", "media"}
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_POD_MARK = re.compile(r"[A-Z](?:<< (.*?) >>|<([^<>]*)>)", re.DOTALL)
_CHAPTER = re.compile(r"\n\n(?=chapter )", re.IGNORECASE)
_CONTENTS = 400
"""Characters below which a docstring is no prose."""


def opened(path: Path) -> str:
    """Text of a file, gzipped or not; bytes that are no UTF-8 are left out."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix in (".gz", ".dz") else path.read_bytes()
    return raw.decode("utf-8", errors="ignore").replace("\r\n", "\n")


def joined(text: str) -> str:
    """Paragraphs with their lines joined and nothing else between them but one empty line."""
    parts = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return "\n\n".join(part for part in parts if part)


class _Paragraphs(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = [""]
        self.unread: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if (
            tag in _UNREAD
            or dict(attrs).get("class", "") in ("docnav", "docnav top")
            or (self.unread and tag == self.unread[-1])
        ):
            self.unread.append(tag)
        if tag in _BLOCKS:
            self.parts.append("")

    def handle_endtag(self, tag: str) -> None:
        if self.unread and tag == self.unread[-1]:
            self.unread.pop()
        if tag in _BLOCKS:
            self.parts.append("")

    def handle_data(self, data: str) -> None:
        if not self.unread:
            self.parts[-1] += data


def html(path: Path) -> Iterator[str]:
    """A page of HTML, or of Mallard, which marks paragraphs alike; code and navigation are left out."""
    parser = _Paragraphs()
    parser.feed(opened(path))
    yield joined("\n\n".join(parser.parts))


def markdown(path: Path) -> Iterator[str]:
    """A page of Markdown without headings, rules and the targets of links."""
    lines = (line for line in opened(path).split("\n") if not re.match(r"\s*(#|[=*-]{2,}|\|)", line))
    lines = (re.sub(r"^\s*(>\s?)+", "", line) for line in lines)
    yield joined(re.sub(r"[*_`\\]", "", _LINK.sub(r"\1", "\n".join(lines))))


def pod(path: Path) -> Iterator[str]:
    """Paragraphs of Perl's documentation without commands, code and the marks of its formats."""
    parts = [part for part in re.split(r"\n\s*\n", opened(path)) if part[:1] not in ("=", " ", "\t")]
    text = "\n\n".join(parts).replace("E<gt>", "&gt;").replace("E<lt>", "&lt;")
    for _ in range(3):  # marks within marks
        text = _POD_MARK.sub(lambda mark: mark[1] or mark[2] or "", text)
    yield joined(unescape(text))


def entries(path: Path) -> Iterator[str]:
    """Entries of a dictd dictionary, one a document; the marks of cross references are left out."""
    for entry in re.split(r"\n(?=\S)", opened(path)):
        head, _, body = entry.partition("\n")
        if body.strip():
            yield joined(f"{head}.\n\n{re.sub(r'[{}]', '', body)}")


def sayings(path: Path) -> Iterator[str]:
    """Fortunes, one a document; their index and second names of the same file are left out."""
    if path.is_symlink() or path.suffix:
        return
    yield from (" ".join(part.split()) for part in opened(path).split("\n%\n"))


def last_columns(path: Path) -> Iterator[str]:
    """The longest column of each row of a tab-separated table, such as a tale beside its title."""
    csv.field_size_limit(2**24)
    for row in csv.reader(opened(path).splitlines(), delimiter="\t"):
        if row:
            yield " ".join(max(row, key=len).split())


def r_texts(path: Path) -> Iterator[str]:
    """Texts of an R package's data, vectors of lines, cut at chapters; see "Serialization Formats" in R Internals."""
    raw, place = path.read_bytes(), 0
    while place + 4 < len(raw):
        found = raw.find(b"\x78", place)  # a zlib stream behind its four bytes of length
        if found < 0:
            return
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(raw[found:])
        except zlib.error:
            place = found + 1
            continue
        place = len(raw) - len(stream.unused_data)
        yield from _CHAPTER.split(joined("\n".join(_strings(data))))


def _strings(data: bytes) -> Iterator[str]:
    """Character strings of serialised R data: four bytes of flags that end in 9, the length, the bytes."""
    place = 0
    while (place := data.find(b"\x00\x09", place + 1)) >= 0:
        start = place + 6
        if start > len(data) or data[place - 2] != 0:
            continue
        (length,) = struct.unpack(">i", data[place + 2 : start])
        if 0 <= length <= len(data) - start:
            yield data[start : start + length].decode("utf-8", errors="ignore")
            place = start + length - 1


def docstrings(path: Path | None = None) -> Iterator[str]:
    """Long docstrings of Python's standard library, one a document; of one file when ``path`` is given."""
    files = [path] if path is not None else sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py"))
    for file in files:
        if "site-packages" in file.parts or "test" in file.parts or "tests" in file.parts:
            continue
        try:
            tree = ast.parse(opened(file))
        except (SyntaxError, ValueError):  # templates and tests of the parser itself
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                if len(text) >= _CONTENTS:
                    yield joined(text)
