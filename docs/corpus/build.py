"""The corpus: pieces of documents as JSON lines, split by the hash of the whole document."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.corpus.kinds import KINDS, Kind
from tl_nla.amounts import check_count
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.outputs import check_folder

TRAIN, HELD_OUT, SUMMARY = "train.jsonl", "held_out.jsonl", "corpus.json"


@dataclass(frozen=True)
class CorpusConfig:
    """How documents become pieces.

    Attributes:
        longest: characters of a piece; a document is cut between paragraphs, or between sentences.
        shortest: characters below which a piece is left out.
        heldout: share of documents held out.
        letters: smallest share of letters and spaces of a piece: what lies below is tables and code.
    """

    longest: int = 3000
    shortest: int = 200
    heldout: float = 0.1
    letters: float = 0.85

    def __post_init__(self) -> None:
        check_count("shortest", self.shortest)
        if not self.shortest < self.longest:
            raise InputError(f"longest is {self.longest} characters, shortest {self.shortest}; give a longer longest")
        if not 0 < self.heldout < 1:
            raise InputError(f"heldout is {self.heldout}; allowed: a share between 0 and 1, such as 0.1")


def build_corpus(
    packages: Path, folder: Path, config: CorpusConfig | None = None, sampled: Iterable[str] = ()
) -> dict[str, Any]:
    """Write ``train.jsonl``, ``held_out.jsonl`` and a summary; each line is one piece with its kind and document.

    Files are put in place when they are complete. What no package is there for is left out and named.

    Args:
        packages: folder that the packages were unpacked into.
        folder: for the corpus.
        config: how documents are cut and split.
        sampled: documents of the kind ``model``, see :func:`docs.corpus.sampled.sample_documents`.

    Returns:
        The summary: pieces, documents and characters of each kind, the missing kinds, and how to get them.

    Raises:
        InputError: when the folder cannot be written to.

    Example:
        >>> build_corpus(Path("corpus/packages"), Path("corpus"))["kinds"]["essays"]["characters"]
    """
    config = config or CorpusConfig()
    check_folder(folder).mkdir(parents=True, exist_ok=True)
    counts: dict[str, dict[str, int]] = {}
    parts = [(kind.name, kind_documents(kind, packages)) for kind in KINDS] + [("model", iter(sampled))]
    with _Whole(folder / TRAIN) as train, _Whole(folder / HELD_OUT) as held:
        for name, documents in parts:
            counts[name] = _write(name, documents, config, train, held)
    missing = {kind.name: kind.package for kind in KINDS if not counts[kind.name]["pieces"]}
    summary = {
        "kinds": {name: count for name, count in counts.items() if count["pieces"]},
        "missing": missing,
        "characters": sum(count["characters"] for count in counts.values()),
        "licences": {kind.name: kind.licence for kind in KINDS},
        "config": vars(config),
    }
    with _Whole(folder / SUMMARY) as file:
        file.write(json.dumps(summary, indent=2) + "\n")
    return summary


def kind_documents(kind: Kind, packages: Path) -> Iterator[str]:
    """The documents of a kind, file by file in the order of their names; none where its package is missing."""
    if not kind.files:
        yield from kind.documents(None)  # type: ignore[arg-type]
        return
    for pattern in kind.files:
        for path in sorted(packages.glob(pattern)):
            yield from kind.documents(path)


def pieces(text: str, config: CorpusConfig) -> Iterator[str]:
    """Pieces of a document: whole paragraphs, or sentences where a paragraph is too long, as many as fit."""
    held = ""
    for part in _parts(text, config.longest):
        if held and len(held) + len(part) + 2 > config.longest:
            yield from _usable(held, config)
            held = ""
        held = f"{held}\n\n{part}" if held else part
    yield from _usable(held, config)


def _parts(text: str, longest: int) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        rest = paragraph
        while len(rest) > longest:
            ends = [match.end() for match in re.finditer(r"[.!?][\"')\]]?\s", rest[:longest])]
            cut = ends[-1] if ends else longest
            yield rest[:cut].strip()
            rest = rest[cut:]
        if rest.strip():
            yield rest.strip()


def _usable(text: str, config: CorpusConfig) -> Iterator[str]:
    if len(text) >= config.shortest and sum(c.isalpha() or c.isspace() for c in text) >= config.letters * len(text):
        yield text


def _write(name: str, documents: Iterable[str], config: CorpusConfig, train: Any, held: Any) -> dict[str, int]:
    count = {"documents": 0, "pieces": 0, "characters": 0}
    seen: set[str] = set()
    for text in documents:
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if key in seen:
            continue
        seen.add(key)
        file = held if Document(key, text).bucket < config.heldout else train
        cut = list(pieces(text, config))
        for number, piece in enumerate(cut):
            row = {"text": piece, "kind": name, "document": f"{name}/{key}", "piece": number}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        count["documents"] += bool(cut)
        count["pieces"] += len(cut)
        count["characters"] += sum(map(len, cut))
    return count


class _Whole:
    """A text file that is there when all of it has been written, and not before."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        number, self.half = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)
        self.file = os.fdopen(number, "w", encoding="utf-8")
        return self.file

    def __exit__(self, kind: object, *rest: object) -> None:
        self.file.close()
        if kind is None:
            os.replace(self.half, self.path)
        else:
            os.unlink(self.half)
