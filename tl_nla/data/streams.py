"""Documents one at a time, for sources that are larger than the memory."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tl_nla.amounts import check_count
from tl_nla.data.documents import DATASET_PREFIX, Document, check_source, hub_rows
from tl_nla.data.lines import JSON_SUFFIXES, json_rows, paragraphs, text_field
from tl_nla.errors import InputError
from tl_nla.plugins import world


def stream_documents(source: str, limit: int | None = None, seed: int = 0) -> Iterator[Document]:
    """The documents of :func:`tl_nla.data.load_documents`, under the same names, without holding more than one.

    Args:
        source: ``"world"``, the path of a text or JSON-lines file, or ``"dataset:NAME[:SPLIT]"``.
        limit: how many at most; the world has no end and needs one.
        seed: stream of the world's stories.

    Raises:
        InputError: when there is no such source, or a row cannot be read.
    """
    check_source(source)
    if limit is not None:
        check_count("limit", limit)
    known = world(source)
    if known is not None:
        if limit is None:
            raise InputError(f"the {source} has no last story; give a number of documents")
        return (known.documents(1, seed, number)[0] for number in range(limit))
    name, texts = _texts(source)
    return (Document(f"{name}/{number}", text) for number, text in enumerate(islice(texts, limit)))


def _texts(source: str) -> tuple[str, Iterable[str]]:
    if source.startswith(DATASET_PREFIX):
        rows = enumerate(hub_rows(source))
        return "dataset", (text_field(row, "text", f"row {number} of the data set") for number, row in rows)
    if Path(source).suffix not in JSON_SUFFIXES:
        return Path(source).name, paragraphs(source)
    return Path(source).name, (text_field(row, "text", where) for where, row in json_rows(source))
