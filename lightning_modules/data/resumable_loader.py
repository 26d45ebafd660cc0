"""A data loader that a checkpoint can put back where it was."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from lightning_modules.processes import rank, world_size
from tl_nla.errors import InputError


class EpochSampler(DistributedSampler[int]):
    """Rows in an order fixed by (seed, epoch), dealt to the processes in turn.

    Batch *i* of ``k`` processes together holds the rows of batch *i* of one process with ``k`` times the batch size.

    Args:
        dataset: what is sampled.
        seed: of the order.
        drop_last: leave out the rows that do not go round; otherwise the first ones of the order are served twice.
    """

    def __init__(self, dataset: Any, seed: int = 0, drop_last: bool = False) -> None:
        super().__init__(
            dataset, num_replicas=world_size(), rank=rank(), shuffle=True, seed=seed, drop_last=drop_last
        )  # fmt: skip
        self.skip = 0

    def __iter__(self) -> Iterator[int]:
        order = list(super().__iter__())[self.skip :]
        self.skip = 0
        return iter(order)

    def about(self) -> dict[str, int]:
        """What a checkpoint has to agree with."""
        return {"seed": self.seed, "processes": self.num_replicas}


class PassesSampler(EpochSampler):
    """So many rows in a single epoch: one pass over all of them after another, each in an order of its own.

    Batches go across the ends of passes, so that all are whole.

    Args:
        dataset: what is sampled, in one process.
        count: how many rows are served.
        seed: of all orders.
    """

    def __init__(self, dataset: Any, count: int, seed: int = 0) -> None:
        super().__init__(dataset, seed)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        rows, generator = len(self.dataset), torch.Generator().manual_seed(self.seed)  # type: ignore[arg-type]
        passes = [torch.randperm(rows, generator=generator) for _ in range(-(-self.count // rows))]
        order = torch.cat(passes)[self.skip : self.count]
        self.skip = 0
        return iter(order.tolist())


class ResumableLoader(DataLoader[Any]):
    """A shuffled loader with a state: how many batches of the epoch were handed out.

    Batches that workers have fetched ahead do not count. Its randomness is its own: making an iterator draws nothing
    from the global generator. Randomness inside a data set's ``__getitem__`` is not restored; ours has none.

    Args:
        dataset: rows: anything with a length and rows by index.
        batch_size: rows a batch and process.
        seed: of the order.
        order: sampler of the rows; one over all of them by default.
        settings: of ``DataLoader``.

    Raises:
        InputError: when there is not a single batch.
    """

    def __init__(
        self, dataset: Any, batch_size: int, seed: int = 0, order: EpochSampler | None = None, **settings: Any
    ) -> None:
        self._order = order or EpochSampler(dataset, seed, bool(settings.get("drop_last")))
        self._given = 0
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; at least 1 is needed")
        super().__init__(
            dataset, batch_size=batch_size, sampler=self._order, generator=torch.Generator(), **settings
        )  # fmt: skip
        if not len(self):
            among = f" among {world_size()} processes" if world_size() > 1 else ""
            raise InputError(
                f"{len(dataset)} rows to train on make no batch of {batch_size}{among}; give a smaller batch_size, or "
                "more documents or positions"
            )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.generator.manual_seed(self._order.seed + self._order.epoch)
        self._given = self._order.skip // (self.batch_size or 1)
        for batch in super().__iter__():
            # No code may follow the last yield: Lightning stops by length and never comes back for it.
            self._given += 1
            yield batch

    def _about(self) -> dict[str, int]:
        rows: Any = self.dataset
        return {"rows": len(rows), "batch_size": int(self.batch_size or 1), **self._order.about()}

    def state_dict(self) -> dict[str, int]:
        """Where the epoch stands, and of which data."""
        return {"batches": self._given % max(1, len(self)), **self._about()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches of the state.

        Raises:
            InputError: when the state is of other data.
        """
        for name, value in self._about().items():
            found = state.get(name, 1 if name == "processes" else None)
            if found != value:
                raise InputError(
                    f"the checkpoint was written with {name} {found}, this run has {value}; "
                    "continue with the same data settings"
                )
        self._order.skip = state["batches"] * int(self.batch_size or 1)
