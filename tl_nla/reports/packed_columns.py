"""Columns of whole numbers as bytes that compress well: what a packed report is made of.

A column is written byte plane by byte plane, low bytes first, since high bytes are nearly all the same. Zero stands
for "none", so signed numbers are folded (0, -1, 1, -2, ...) and raised by one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNIT = 1e-4
"""Smallest difference of two numbers that is kept."""
_DIGITS = 4
_LARGEST = 2**29


class Columns:
    """Columns that are written one after the other, and how to find them again."""

    def __init__(self) -> None:
        self.layout: dict[str, dict[str, Any]] = {}
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, name: str, values: NDArray[Any], **told: Any) -> None:
        """Append a column.

        Args:
            name: of the column.
            values: whole numbers from zero on, of any shape.
            told: what its reader must know besides, such as ``unit``.
        """
        flat = np.ascontiguousarray(values, dtype="<u4").reshape(-1)
        most = int(flat.max(initial=0))
        width = 1 if most < 1 << 8 else 2 if most < 1 << 16 else 4
        planes = flat.view(np.uint8).reshape(-1, 4)[:, :width].T.tobytes()
        self.layout[name] = {"start": self._size, "count": flat.size, "width": width, **told}
        self._parts.append(planes)
        self._size += len(planes)

    def add_numbers(self, name: str, values: NDArray[np.float64]) -> None:
        """Append numbers, kept to four digits and to ``UNIT``; what is not finite becomes "none"."""
        known = np.isfinite(values)
        sizes = np.where(known, values, 0.0)
        unit = max(UNIT, float(np.abs(sizes).max(initial=0.0)) / _LARGEST)
        steps = np.rint(sizes / unit)
        coarse = 10.0 ** np.maximum(0, np.floor(np.log10(np.maximum(np.abs(steps), 1))) - (_DIGITS - 1))
        whole = (np.rint(steps / coarse) * coarse).astype(np.int64)
        folded = np.where(whole < 0, -2 * whole - 1, 2 * whole) + 1
        self.add(name, np.where(known, folded, 0), unit=unit)

    def to_bytes(self) -> bytes:
        """All columns."""
        return b"".join(self._parts)


def whole_numbers(content: bytes, layout: dict[str, Any]) -> NDArray[np.uint32]:
    """A column of whole numbers."""
    count, width, start = layout["count"], layout["width"], layout["start"]
    found = np.frombuffer(content, np.uint8, count * width, start).reshape(width, count)
    whole = np.zeros(count, np.uint32)
    for place in range(width):
        whole |= found[place].astype(np.uint32) << np.uint32(8 * place)
    return whole


def numbers(content: bytes, layout: dict[str, Any]) -> list[float | None]:
    """A column of numbers; ``None`` where there is none."""
    raised = whole_numbers(content, layout).astype(np.int64) - 1
    steps = np.where(raised & 1, -(raised + 1) // 2, raised // 2)
    values = [float(f"{value:.7g}") for value in (steps * layout["unit"]).tolist()]
    return [None if code < 0 else value for code, value in zip(raised.tolist(), values, strict=True)]
