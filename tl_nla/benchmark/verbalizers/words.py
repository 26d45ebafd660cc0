"""Words of all arms about all rows: cut to equal length, said once, kept on the disk."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.errors import InputError
from tl_nla.whole_file import write_json

Role = Literal["verbalizer", "control", "reference", "cheater"]
Say = Callable[..., list[str]]
"""Rows, and perhaps how many tokens at most, to one text each."""
_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Arm:
    """Something that says words about rows.

    Attributes:
        name: one of the results contract's arms.
        say: takes rows, and how many tokens the verbalizer used for each; gives one text each.
        role: ``control`` has to be beaten; ``reference`` is shown only; ``cheater`` has to be unmasked.
        sees: what it is given: ``vector``, ``text``, ``both`` or ``nothing``.
        equal: whether its words about a row are cut to the length of the verbalizer's. Off for what says words about
            another vector, which would learn something about this one from the length.
        keeps: what is left of its words when they are cut.
        covers: names of the rows that it can speak about; all when ``None``.
    """

    name: str
    say: Callable[[Rows, list[int]], Sequence[str]] = field(repr=False)
    role: Role = "control"
    sees: str = "vector"
    covers: tuple[str, ...] | None = None
    equal: bool = True
    keeps: Literal["start", "end"] = "start"


class Words:
    """Says and keeps the words.

    Args:
        own: the arm that is benchmarked, whose lengths all others get.
        tokenizer: that lengths are counted by, the target's.
        budget: tokens of a text at most.
        keep: folder of parts; nothing is kept when ``None``.
    """

    def __init__(self, own: Arm, tokenizer: Any, budget: int, keep: Path | None = None) -> None:
        self.own, self.tokenizer, self.budget, self.keep = own, tokenizer, budget, keep
        self._said: dict[tuple[str, str], list[str]] = {}

    def __call__(self, arm: Arm, rows: Rows, most: int | None = None) -> list[str]:
        """One text a row, of so many tokens at most.

        Raises:
            InputError: when the arm gives another number of texts, or none that are text.
        """
        key = (arm.name, rows.name)
        if key not in self._said:
            self._said[key] = self._kept(key, len(rows)) or self._ask(arm, rows)
        said = self._said[key]
        return said if most is None else [self.cut(text, most, arm.keeps) for text in said]

    def say(self, arm: Arm) -> Say:
        """The arm as a function of rows alone."""
        return lambda rows, most=None: self(arm, rows, most)

    def lengths(self, rows: Rows) -> list[int]:
        """Tokens of the verbalizer's words about each row."""
        return [len(self.ids(text)) for text in self(self.own, rows)]

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def cut(self, text: str, length: int, keeps: str = "start") -> str:
        """The first tokens of a text, or the last ones."""
        ids = self.ids(text)
        if len(ids) <= length:
            return text
        return quote_end(self.tokenizer, ids, length) if keeps == "end" else str(self.tokenizer.decode(ids[:length]))

    def _ask(self, arm: Arm, rows: Rows) -> list[str]:
        wanted = [self.budget] * len(rows) if arm is self.own else self.lengths(rows)
        found = list(arm.say(rows, wanted))
        if len(found) != len(rows) or not all(isinstance(text, str) for text in found):
            raise InputError(f"{arm.name} gave {len(found)} answers for {len(rows)} vectors; it must give a text each")
        most = wanted if arm.equal else [self.budget] * len(rows)
        texts = [self.cut(text, min(self.budget, length), arm.keeps) for text, length in zip(found, most, strict=True)]
        path = self._path((arm.name, rows.name))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(texts, path)
        return texts

    def _kept(self, key: tuple[str, str], number: int) -> list[str] | None:
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is damaged ({error}); delete it, and it is made again") from error
        return [str(text) for text in found] if isinstance(found, list) and len(found) == number else None

    def _path(self, key: tuple[str, str]) -> Path | None:
        name = "__".join("-".join(_NAME.findall(part)) for part in key)
        return None if self.keep is None else self.keep / "words" / f"{name}.json"


def quote_end(tokenizer: Any, ids: Sequence[int], length: int) -> str:
    """The end of a text, at most so many tokens when it is read again: without its space the first token may split."""
    for many in range(max(1, length), 0, -1):
        text = str(tokenizer.decode(list(ids)[-many:], skip_special_tokens=True))
        if len(tokenizer.encode(text, add_special_tokens=False)) <= length:
            return text
    return ""
