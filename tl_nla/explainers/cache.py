"""Answers kept on disk, so that a run that was cut off asks nothing twice."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

from tl_nla.paths import user_path


class AnswerCache:
    """A JSON-lines file of answers; each is written as soon as it is there.

    A line that was cut off by a crash is left out and asked again. One process at a time may write a file.

    Args:
        path: of the file; kept in memory only when ``None``.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else user_path(path)
        self._answers: dict[str, str] = {}
        self._lock = threading.Lock()
        if self.path is not None and self.path.is_file():
            self._read(self.path)

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, question: Any) -> str | None:
        """The answer to a question (anything that JSON can hold), if it is known."""
        return self._answers.get(_key(question))

    def put(self, question: Any, answer: str) -> None:
        """Keep an answer."""
        key = _key(question)
        with self._lock:
            self._answers[key] = answer
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "answer": answer}, ensure_ascii=True) + "\n")

    def _read(self, path: Path) -> None:
        whole = path.read_bytes()
        for line in whole.split(b"\n"):
            try:
                row = json.loads(line)
                self._answers[str(row["key"])] = str(row["answer"])
            except (ValueError, KeyError, TypeError):
                continue
        if whole and not whole.endswith(b"\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")


def _key(question: Any) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
