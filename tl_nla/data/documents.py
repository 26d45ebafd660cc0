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
DATASET_PREFIX = "dataset:"


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


def check_source(source: str) -> None:
    """Refuse at once a source that could not be read later.

    Raises:
        InputError: when it is a file that does not exist.
    """
    if source != "world" and not source.startswith(DATASET_PREFIX) and not Path(source).is_file():
        raise InputError(
            f"no source {source!r}; give 'world', the path of a text or JSON-lines file, or '{DATASET_PREFIX}NAME'"
        )


def load_documents(source: str, limit: int, seed: int = 0) -> list[Document]:
    """Documents of a named source.

    Args:
        source: ``"world"``; the path of a text file (paragraphs) or of a JSON-lines file; ``"dataset:NAME"`` or
            ``"dataset:NAME:SPLIT"``, a hub dataset or a local folder of one, read through ``datasets`` as a stream.
        limit: how many at most.
        seed: stream of the world's stories.
    """
    check_source(source)
    if source == "world":
        return world_documents(limit, seed)
    if source.startswith(DATASET_PREFIX):
        import datasets

        name, _, split = source.removeprefix(DATASET_PREFIX).partition(":")
        return dataset_documents(datasets.load_dataset(name, split=split or "train", streaming=True), limit=limit)
    if Path(source).suffix in (".jsonl", ".json"):
        return jsonl_documents(source, limit=limit)
    return text_file_documents(source, limit=limit)


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
