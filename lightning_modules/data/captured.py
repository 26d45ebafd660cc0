"""Serves a capture from the disk, a few shards at a time."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from lightning_modules.data.activations import collate
from lightning_modules.data.resumable_loader import EpochSampler
from lightning_modules.data.served import ServedModule
from tl_nla.amounts import check_count
from tl_nla.data.shards import Shard, read_index, read_mean, read_settings, read_shard
from tl_nla.errors import InputError
from tl_nla.paths import user_path

Row = TypeVar("Row")


class LazyShards(Dataset[Row]):
    """Rows of several files, of which at most ``keep`` are in memory.

    Args:
        sizes: rows of each file.
        keep: files in memory.
    """

    def __init__(self, sizes: list[int], keep: int) -> None:
        self.sizes, self._ends, self._keep = sizes, list(accumulate(sizes)), keep
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, number: int) -> Any:
        """What a file holds."""
        raise NotImplementedError

    def place(self, index: int) -> tuple[Any, int]:
        """The file's content that a row is in, and the row's number there."""
        number = bisect_right(self._ends, index)
        if number not in self._kept:
            while len(self._kept) >= self._keep:
                self._kept.popitem(last=False)
            self._kept[number] = self.read(number)
        self._kept.move_to_end(number)
        return self._kept[number], index - (self._ends[number] - self.sizes[number])


class ShardedRows(LazyShards[tuple[Tensor, str]]):
    """Rows ``(activation, text)`` of one side of the split; at most ``keep`` shards are in memory."""

    def __init__(
        self, folder: Path, split: Literal["train", "heldout"], texts: Literal["explanations", "contexts"],
        keep: int = 4,
    ) -> None:  # fmt: skip
        shards = read_index(folder)["shards"]
        self.files = [folder / shard["file"] for shard in shards]
        self._split, self._texts = split, texts
        super().__init__([int(s["train"] if split == "train" else s["rows"] - s["train"]) for s in shards], keep)

    def read(self, number: int) -> Shard:
        """A shard."""
        return read_shard(self.files[number])

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        shard, row = self.place(index)
        row += 0 if self._split == "train" else shard.train
        return shard.acts[row].float(), getattr(shard, self._texts)[row]


class ShardSampler(EpochSampler):
    """Shards in a random order, and the rows of ``window`` neighbours in it shuffled together.

    So that a pass reads every file once. The order is fixed by (seed, epoch) and the same for any number of processes,
    which are dealt the rows in turn. It is made a window at a time, and going on in an epoch makes none that are over.

    Args:
        rows: what is sampled.
        seed: of the order.
        window: shards that are shuffled together.
    """

    def __init__(self, rows: LazyShards[Any], seed: int, window: int) -> None:
        super().__init__(rows, seed, drop_last=True)
        self.window, self._sizes = window, rows.sizes

    def __iter__(self) -> Iterator[int]:
        starts = [end - size for end, size in zip(accumulate(self._sizes), self._sizes, strict=True)]
        shards = torch.randperm(len(self._sizes), generator=self._generator(0)).tolist()
        first, last = self.skip * self.num_replicas, self.total_size
        self.skip = place = 0
        for number, begin in enumerate(range(0, len(shards), self.window)):
            group = shards[begin : begin + self.window]
            size = sum(self._sizes[shard] for shard in group)
            if place + size > first:
                rows = torch.cat([torch.arange(starts[s], starts[s] + self._sizes[s]) for s in group])
                order = rows[torch.randperm(size, generator=self._generator(number + 1))].tolist()
                for at, row in enumerate(order, place):
                    if first <= at < last and at % self.num_replicas == self.rank:
                        yield row
            place += size

    def _generator(self, stream: int) -> torch.Generator:
        mixed = (self.seed * 1_000_003 + self.epoch) * 1_000_003 + stream
        return torch.Generator().manual_seed(mixed % 2**63)

    def about(self) -> dict[str, int]:
        """What a checkpoint has to agree with."""
        return {**super().about(), "window": self.window}


class CapturedDataModule(ServedModule):
    """What :class:`lightning_modules.ActivationCapture` wrote, for the warm starts and for ``NLATraining``.

    Args:
        folder: of a finished capture.
        batch_size: rows a batch and process.
        seed: of the order.
        window: shards that are shuffled together, and that each process holds in memory.
        texts: the explanations, or the raw contexts for the ``cat`` control.
        num_workers: processes that fetch rows; each holds ``window`` shards.
    """

    collated: Any = staticmethod(collate)

    def __init__(
        self, folder: str, batch_size: int = 64, seed: int = 0, window: int = 4,
        texts: Literal["explanations", "contexts"] = "explanations", num_workers: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, value in (("batch_size", batch_size), ("window", window)):
            check_count(name, value)
        if num_workers < 0:
            raise InputError(f"num_workers is {num_workers}; allowed: 0 or more")
        self.folder, self.batch_size, self.seed, self.window = user_path(folder), batch_size, seed, window
        self.texts, self.num_workers = texts, num_workers

    @property
    def site(self) -> str | None:
        """Where the states were read; ``None`` for captures that do not say."""
        site = read_settings(self.folder).get("site")
        return None if site is None else str(site)

    @property
    def width(self) -> int:
        """Size of the vectors."""
        return int(read_index(self.folder)["d_model"])

    def about(self) -> dict[str, Any]:
        """What a run that goes on has to be given again."""
        return {"site": self.site, "texts": self.texts}

    @property
    def mean(self) -> Float[Tensor, " d_model"]:
        """Mean of the normalised training states: the zero of every FVE."""
        return read_mean(self.folder)

    def heldout_rows(self, count: int) -> tuple[Float[Tensor, "n d_model"], list[str]]:
        """The first held-out states and their texts."""
        rows = self.rows(False)
        found = collate([rows[row] for row in range(min(count, len(rows)))])
        return found["acts"], found["texts"]

    def rows(self, train: bool) -> ShardedRows:
        """Rows read from the shards."""
        return ShardedRows(self.folder, "train" if train else "heldout", self.texts, self.window)

    def order(self, rows: Any) -> ShardSampler:
        """Shards that are shuffled together."""
        return ShardSampler(rows, self.seed, self.window)
