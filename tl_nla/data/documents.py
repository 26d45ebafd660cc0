"""Documents: where texts come from, and which split each belongs to."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tl_nla.errors import InputError, unknown
from tl_nla.storyworld.generator import write_story

_BUCKETS = 10_000


@dataclass(frozen=True)
class Document:
    """One text and its name; the name is the cluster of every bootstrap."""

    id: str
    text: str

    @property
    def bucket(self) -> float:
        """A number in [0, 1) that depends on the text alone (SHA-256), so equal texts share a split."""
        digest = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()
        return (int(digest[:12], 16) % _BUCKETS) / _BUCKETS


def world_documents(count: int, seed: int = 0, start: int = 0) -> list[Document]:
    """Stories ``start`` to ``start + count`` of stream ``seed`` of the story world."""
    return [Document(f"world/{seed}/{i}", write_story(seed, i).text) for i in range(start, start + count)]


def text_file_documents(path: str | Path, limit: int | None = None) -> list[Document]:
    """Paragraphs (separated by empty lines) of a UTF-8 text file."""
    paragraphs = [part.strip() for part in _read(path).split("\n\n")]
    return _numbered(Path(path).name, (part for part in paragraphs if part), limit)


def jsonl_documents(path: str | Path, field: str = "text", limit: int | None = None) -> list[Document]:
    """The ``field`` of every line of a JSON-lines file."""

    def texts() -> Iterator[str]:
        for number, line in enumerate(_read(path).splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number}: not JSON ({error.msg}); one JSON object a line") from error
            yield _field(row, field, f"{path}, line {number}")

    return _numbered(Path(path).name, texts(), limit)


def dataset_documents(
    rows: Iterable[Mapping[str, Any]], field: str = "text", limit: int | None = None
) -> list[Document]:
    """The ``field`` of every row of a ``datasets`` dataset, or of any iterable of mappings."""
    return _numbered("dataset", (_field(row, field, "dataset row") for row in rows), limit)


def split_documents(documents: Iterable[Document], heldout: float = 0.1) -> tuple[list[Document], list[Document]]:
    """Split by the hash of the text, so that no text is on both sides and no order matters.

    Args:
        documents: all documents.
        heldout: share held out, in (0, 1).

    Returns:
        The documents to train on and the held-out ones.
    """
    if not 0 < heldout < 1:
        raise InputError(f"heldout is {heldout}; allowed: a share between 0 and 1, such as 0.1")
    train: list[Document] = []
    held: list[Document] = []
    for document in documents:
        (held if document.bucket < heldout else train).append(document)
    return train, held


def _numbered(name: str, texts: Iterable[str], limit: int | None) -> list[Document]:
    documents = [Document(f"{name}/{number}", text) for number, text in enumerate(islice(texts, limit))]
    if not documents:
        raise InputError(f"{name} holds no text; at least one document is needed")
    return documents


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no file {str(path)!r}; give the path of a UTF-8 text or JSON-lines file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); convert it to UTF-8") from error


def _field(row: Any, field: str, where: str) -> str:
    if not isinstance(row, Mapping) or field not in row:
        names = list(row) if isinstance(row, Mapping) else []
        raise unknown(f"field in {where}", field, names)
    return str(row[field])
