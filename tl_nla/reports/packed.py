"""A contribution report packed for a browser: a hundredth of its JSON, read by the tab and by the HTML file alike.

::

    {"schema": 2, "data": "..."}     base64 of a deflated block of bytes

The block holds the length of a JSON header (four bytes, low byte first), the header, and the columns of
:mod:`tl_nla.reports.packed_columns`. The header holds everything of the report but its cells, and

- ``components``: ``[layer, component, part, head]`` of each component. Cell ``c * len(positions) + p`` is component
  ``c`` at position ``p``;
- ``words``: the words that cells name, the most frequent first; column entry ``n`` means ``words[n - 1]``;
- ``texts``: explanations that are no label; entry ``n`` means ``texts[n - 3]``, 1 and 2 a label with and without
  "attended";
- ``columns``: where each column lies.

Numbers are kept to four digits and to 0.0001, shares of attention to 0.01. Nothing here imports torch: TensorBoard's
server reads it too.
"""

import base64
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_nla.errors import InputError
from tl_nla.reports.packed_columns import Columns, numbers, whole_numbers

PACKED = 2
NUMBERS = {"direct": "direct", "kl": "skip_kl", "change": "skip_target_change", "strength": "strength"}
"""Columns of numbers, and the fields of a cell that they hold."""
_LISTS = {"promoted": "promoted", "suppressed": "suppressed"}
_LABELS = 3
_PLAIN = re.compile(r'[^\s,;"]+')
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\ufeff\ud800-\udfff]")
"""Signs that Python and JavaScript take for blanks, or escape, in different ways."""
_LEVEL = 9


def pack(report: dict[str, Any], most_bytes: int | None = None) -> dict[str, Any]:
    """Pack a report.

    Args:
        report: what ``ContributionReport.to_dict()`` gives.
        most_bytes: largest length of the packed data. Where a report needs more, only the strongest cells of each
            position keep their words; all keep their numbers. ``None`` for no limit.

    Returns:
        A dictionary that JSON can hold, its texts without a character that HTML would read.

    Raises:
        InputError: when the numbers alone need more than ``most_bytes``.
    """
    cells = _Cells(report)
    data = cells.data(1.0)
    if most_bytes is None or len(data) <= most_bytes:
        return {"schema": PACKED, "data": data}
    bare = len(cells.data(0.0))
    share = 1.0
    for _ in range(6):
        share *= 0.98 * (most_bytes - bare) / max(1, len(data) - bare)
        if share <= 0:
            break
        data = cells.data(share)
        if len(data) <= most_bytes:
            return {"schema": PACKED, "data": data}
    raise InputError(
        f"the numbers of the report alone need {bare} bytes, and {most_bytes} are allowed; report fewer positions"
    )


def unpack(packed: dict[str, Any]) -> dict[str, Any]:
    """The report of packed data, its numbers rounded as :func:`pack` did.

    Raises:
        InputError: when it is none of this version.
    """
    if not isinstance(packed, dict) or packed.get("schema") != PACKED:
        raise InputError("no packed report of this version; tl_nla.reports.packed.pack makes one")
    block = zlib.decompress(base64.b64decode(packed["data"]))
    end = 4 + int.from_bytes(block[:4], "little")
    header, content = json.loads(block[4:end]), block[end:]
    layout = header.pop("columns")
    columns = {name: numbers(content, layout[name]) if name in NUMBERS else whole_numbers(content, layout[name])
               for name in layout}  # fmt: skip
    components, words, texts = (header.pop(name) for name in ("components", "words", "texts"))
    count = len(header["positions"])
    cells = []
    for place in range(count):
        for number, component in enumerate(components):
            if columns["there"][number * count + place]:
                cells.append(_cell(header, columns, component, place, number, words, texts))
    return {**header, "schema": 1, "cells": cells}


class _Cells:
    """The cells of a report as a block of components by positions."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        cells, positions = report["cells"], report["positions"]
        keys = [(cell["layer"], cell["component"], cell.get("part", "attn"), cell["head"]) for cell in cells]
        self.components = list(dict.fromkeys(keys))
        place = {key: number for number, key in enumerate(self.components)}
        column = {position: number for number, position in enumerate(positions)}
        self.at = np.array([place[key] * len(positions) + column[cell["position"]] for key, cell in zip(keys, cells,
                            strict=True)], dtype=np.int64)  # fmt: skip
        self.size = len(self.components) * len(positions)
        counted = Counter(word for cell in cells for name in _LISTS for word in cell[name])
        self.words = [word for word, _ in counted.most_common()]
        known = {word: number + 1 for number, word in enumerate(self.words)}
        self.lists = {name: self._listed([known[word] for word in cell[name]] for cell in cells) for name in _LISTS}
        pairs = [_sources(cell) for cell in cells]
        self.lists["sources"] = self._listed([source + 1 for source, _ in row] for row in pairs)
        self.lists["shares"] = self._listed([round(100 * share) for _, share in row] for row in pairs)
        texts: dict[str, int] = {}
        codes = [_text_code(cell, report["tokens"], texts) for cell in cells]
        self.codes, self.texts = self._spread(codes), list(texts)
        self.numbers = {name: self._spread([_number(cell[field]) for cell in cells], math.nan)
                        for name, field in NUMBERS.items()}  # fmt: skip
        self.order = np.argsort(-self._sizes(), kind="stable")

    def data(self, share: float) -> str:
        """Everything as base64, with the words of a share of the cells."""
        columns = Columns()
        for name, values in self.numbers.items():
            columns.add_numbers(name, values)
        flips = [int(bool(cell["skip_flip"])) for cell in self.report["cells"]]
        columns.add("flip", self._spread(flips))
        columns.add("there", self._spread([1] * len(self.at)))
        told = np.zeros(self.size, dtype=np.int64)
        told[self.order[: math.ceil(share * self.size)]] = 1
        columns.add("told", told)
        columns.add("text", self.codes * told)
        for name, values in self.lists.items():
            columns.add(name, values * told, each=len(values))
        kept = set((self.codes * told).tolist())
        texts = [text if number in kept else "" for number, text in enumerate(self.texts, _LABELS)]
        rest = {name: value for name, value in self.report.items() if name not in ("cells", "schema")}
        header = {**rest, "components": self.components, "words": self.words, "texts": texts, "columns": columns.layout}
        text = json.dumps(_finite(header), allow_nan=False, separators=(",", ":")).encode()
        block = len(text).to_bytes(4, "little") + text + columns.to_bytes()
        return base64.b64encode(zlib.compress(block, _LEVEL)).decode()

    def _spread(self, values: Sequence[Any], missing: float = 0) -> NDArray[Any]:
        """One value a cell, in the order of the block."""
        found = np.full(self.size, missing, dtype=np.float64 if math.isnan(missing) else np.int64)
        found[self.at] = values
        return found

    def _listed(self, rows: Iterable[list[int]]) -> NDArray[np.int64]:
        """Lists of differing lengths, as ``[longest, cell]`` with zeros behind their ends."""
        known = list(rows)
        found = np.zeros((max((len(row) for row in known), default=0), self.size), dtype=np.int64)
        for cell, row in zip(self.at, known, strict=True):
            found[: len(row), cell] = row
        return found

    def _sizes(self) -> NDArray[np.float64]:
        """How much each cell matters at its position: the larger of its shares of the greatest effect and KL."""
        shares = []
        for name in ("direct", "kl"):
            found = np.abs(np.nan_to_num(self.numbers[name])).reshape(len(self.components), -1)
            shares.append(found / np.maximum(found.max(axis=0, initial=0.0), 1e-12))
        return np.maximum(*shares).reshape(-1)


def _sources(cell: dict[str, Any]) -> list[tuple[int, float]]:
    return [(place, pair[1]) for place, pair in zip(cell["source_positions"], cell["sources"], strict=False)]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _label(promoted: list[str], suppressed: list[str], sources: list[str] | None) -> str:
    """The label of :func:`tl_nla.oracle.texts.label_text`, whose package needs torch; a browser makes it anew."""
    parts = [f"It promotes {_listed(promoted)}", f"suppresses {_listed(suppressed)}"]
    if sources is not None:
        named = dict.fromkeys(name for text in sources if (name := text.strip()))
        parts.append(f"attended {_listed(list(named))}")
    return "; ".join(parts)


def _listed(words: list[str]) -> str:
    plain = (word if _PLAIN.fullmatch(word) and word != "none" else json.dumps(word, ensure_ascii=False)
             for word in words)  # fmt: skip
    return " ".join(plain) or "none"


def _text_code(cell: dict[str, Any], tokens: list[str], texts: dict[str, int]) -> int:
    """Which text a cell has; texts that were not seen before are added."""
    text = cell["explanation"]
    if not text:
        return 0
    if _ODD.search(text):
        return texts.setdefault(text, len(texts) + _LABELS)
    sources = [tokens[place] for place, _ in _sources(cell)]
    for code, read in ((1, sources), (2, None)):
        if text == _label(cell["promoted"], cell["suppressed"], read):
            return code
    return texts.setdefault(text, len(texts) + _LABELS)


def _cell(
    header: dict[str, Any], columns: dict[str, Any], component: list[Any], place: int, number: int, words: list[str],
    texts: list[str],
) -> dict[str, Any]:  # fmt: skip
    """One cell as the report's JSON has it."""
    count = len(header["positions"])
    index = number * count + place
    size = len(columns["there"])

    def listed(name: str) -> list[int]:
        return [int(value) for value in columns[name][index::size] if value]

    promoted, suppressed = ([words[entry - 1] for entry in listed(name)] for name in _LISTS)
    sources = [entry - 1 for entry in listed("sources")]
    shares = [int(value) / 100 for value in columns["shares"][index::size]]
    read = [header["tokens"][source] for source in sources]
    code = int(columns["text"][index])
    made = [None, _label(promoted, suppressed, read), _label(promoted, suppressed, None)]
    return {
        **dict(zip(("layer", "component", "part", "head"), component, strict=True)),
        "position": header["positions"][place],
        **{field: columns[name][index] for name, field in NUMBERS.items()},
        "skip_flip": bool(columns["flip"][index]),
        "sources": [list(pair) for pair in zip(read, shares, strict=False)], "source_positions": sources,
        "promoted": promoted, "suppressed": suppressed,
        "explanation": (texts[code - _LABELS] if code >= _LABELS else made[code]) or "",
    }  # fmt: skip


def _finite(content: Any) -> Any:
    """The same content with null for every number that JSON cannot say."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
