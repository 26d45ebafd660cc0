"""Documents one at a time, for sources that are larger than the memory."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tl_nla.data.documents import DATASET_PREFIX, Document, check_source
from tl_nla.errors import InputError
from tl_nla.storyworld.generator import write_story


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
    if source == "world":
        if limit is None:
            raise InputError("the world has no last story; give a number of documents")
        return (Document(f"world/{seed}/{i}", write_story(seed, i).text) for i in range(limit))
    name, texts = _texts(source)
    return (Document(f"{name}/{number}", text) for number, text in enumerate(islice(texts, limit)))


def _texts(source: str) -> tuple[str, Iterable[str]]:
    if source.startswith(DATASET_PREFIX):
        import datasets

        name, _, split = source.removeprefix(DATASET_PREFIX).partition(":")
        rows = datasets.load_dataset(name, split=split or "train", streaming=True)
        return "dataset", (_field(row, "a dataset row") for row in rows)
    path = Path(source)
    return path.name, (_json_lines(path) if path.suffix in (".jsonl", ".json") else _paragraphs(path))


def _paragraphs(path: Path) -> Iterator[str]:
    gathered: list[str] = []
    for line in _lines(path):
        if line != "\n":
            gathered.append(line)
            continue
        if text := "".join(gathered).strip():
            yield text
        gathered = []
    if text := "".join(gathered).strip():
        yield text


def _json_lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error.msg}); one JSON object a line") from error
        yield _field(row, f"{path}, line {number}")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); convert it to UTF-8") from error


def _field(row: object, where: str) -> str:
    if not isinstance(row, dict) or "text" not in row:
        raise InputError(f"{where} has no field 'text'")
    return str(row["text"])
