"""What a verbalizer is taught about writes that stay on the disk, a few shards of them in memory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning_modules.data.captured import LazyShards
from lightning_modules.data.write_texts import WriteTexts
from tl_nla.data.shards import shard_about
from tl_nla.oracle import LabelledWrites
from tl_nla.oracle.labels import StrengthReference
from tl_nla.oracle.write_shards import read_writes


class StreamedWriteTexts(LazyShards[dict[str, Any]]):
    """The items of :class:`lightning_modules.data.write_texts.WriteTexts`, read shard by shard.

    Questions and turned signs are drawn by the shard's number and the row's place in it.

    Args:
        paths: of the shards, see :func:`tl_nla.oracle.write_shards.keep_writes`.
        reference: of the strengths that are told.
        keep: shards in memory.
        make: the items of the writes of a shard, given its number.
        each: items of a write.
    """

    def __init__(
        self, paths: Sequence[Path], reference: StrengthReference, keep: int,
        make: Callable[[LabelledWrites, int], WriteTexts], each: int,
    ) -> None:  # fmt: skip
        super().__init__([each * int(shard_about(path)["rows"]) for path in paths], keep)
        self._paths, self._reference, self._make = list(paths), reference, make

    def read(self, number: int) -> WriteTexts:
        """The items of a shard."""
        return self._make(read_writes(self._paths[number]).with_strength(self._reference), number)

    def __getitem__(self, index: int) -> dict[str, Any]:
        items, row = self.place(index)
        found: dict[str, Any] = items[row]
        return found
