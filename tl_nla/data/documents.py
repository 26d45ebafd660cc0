"""Documents: where texts come from, and which split each belongs to."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tl_nla.amounts import check_count
from tl_nla.data.lines import JSON_SUFFIXES, json_rows, paragraphs, text_field
from tl_nla.errors import InputError
from tl_nla.paths import user_path
from tl_nla.plugins import source_names, world

_BUCKETS = 10_000
DATASET_PREFIX = "dataset:"


@dataclass(frozen=True)
class Document:
    """One text and its name; the name is the cluster of every bootstrap.

    Attributes:
        id: the name.
        text: the text.
        notes: what else its row held, such as an ``explanation`` (:mod:`tl_nla.explainers.column`).
    """

    id: str
    text: str
    notes: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def bucket(self) -> float:
        """A number in [0, 1) that depends on the text alone (SHA-256), so equal texts share a split."""
        digest = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()
        return (int(digest[:12], 16) % _BUCKETS) / _BUCKETS


def check_documents(documents: Iterable[Any]) -> None:
    """Refuse what are no documents, such as bare texts, which have no name to cluster by."""
    for number, document in enumerate(documents):
        if not isinstance(document, Document):
            found = f"{type(document).__name__} ({str(document)[:40]!r})"
            raise InputError(f"document {number} is {found}; give tl_nla.data.Document(name, text)")


def text_file_documents(path: str | Path, limit: int | None = None) -> list[Document]:
    """Paragraphs (separated by empty lines) of a UTF-8 text file."""
    return _numbered(Path(path).name, ((text, {}) for text in paragraphs(path)), limit)


def jsonl_documents(path: str | Path, field: str = "text", limit: int | None = None) -> list[Document]:
    """The ``field`` of every line of a JSON-lines file; its other fields become notes."""
    rows = ((text_field(row, field, where), row) for where, row in json_rows(path))
    return _numbered(Path(path).name, (_with_notes(text, row, field) for text, row in rows), limit)


def dataset_documents(
    rows: Iterable[Mapping[str, Any]], field: str = "text", limit: int | None = None
) -> list[Document]:
    """The ``field`` of every row of a ``datasets`` dataset, or of any iterable of mappings; the rest becomes notes."""
    texts = ((text_field(row, field, f"row {number} of the data set"), row) for number, row in enumerate(rows))
    return _numbered("dataset", (_with_notes(text, row, field) for text, row in texts), limit)


def hub_rows(source: str) -> Iterable[Mapping[str, Any]]:
    """The rows of ``"dataset:NAME"`` or ``"dataset:NAME:SPLIT"`` as a stream."""
    import datasets

    name, _, split = source.removeprefix(DATASET_PREFIX).partition(":")
    found = user_path(name)
    return datasets.load_dataset(str(found if found.exists() else name), split=split or "train", streaming=True)


def check_source(source: str) -> None:
    """Refuse at once a source that could not be read later.

    Raises:
        InputError: when it is a file that does not exist.
    """
    if source not in source_names() and not source.startswith(DATASET_PREFIX) and not user_path(source).is_file():
        named = ", ".join(repr(name) for name in source_names())
        raise InputError(
            f"no source {source!r}; give {named}, the path of a text or JSON-lines file, or '{DATASET_PREFIX}NAME'"
        )


def load_documents(source: str, limit: int, seed: int = 0) -> list[Document]:
    """Documents of a named source.

    Args:
        source: ``"world"``. The path of a text file (paragraphs) or of a JSON-lines file. ``"dataset:NAME"`` or
            ``"dataset:NAME:SPLIT"``, a hub dataset or a local folder of one, read through ``datasets`` as a stream.
        limit: how many at most.
        seed: stream of the world's stories.

    Raises:
        InputError: when there is no such source, a row cannot be read, or ``limit`` is below 1.
    """
    check_source(source)
    check_count("limit", limit)
    known = world(source)
    if known is not None:
        found: list[Document] = known.documents(limit, seed)
        return found
    if source.startswith(DATASET_PREFIX):
        return dataset_documents(hub_rows(source), limit=limit)
    if Path(source).suffix in JSON_SUFFIXES:
        return jsonl_documents(source, limit=limit)
    return text_file_documents(source, limit=limit)


def shuffle_documents(documents: Iterable[Document], seed: int = 0) -> list[Document]:
    """Documents in an order that depends on their texts and the seed alone, not on the order of the source."""
    return sorted(
        documents,
        key=lambda document: hashlib.sha256(
            f"{seed}/{document.bucket}/{document.text}".encode("utf-8", "surrogatepass")
        ).digest(),
    )


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


def _with_notes(text: str, row: Mapping[str, Any], field: str) -> tuple[str, dict[str, Any]]:
    return text, {name: value for name, value in row.items() if name != field}


def _numbered(name: str, texts: Iterable[tuple[str, dict[str, Any]]], limit: int | None) -> list[Document]:
    rows = enumerate(islice(texts, limit))
    documents = [Document(f"{name}/{number}", text, notes) for number, (text, notes) in rows]
    if not documents:
        raise InputError(f"{name} holds no text; at least one document is needed")
    return documents
