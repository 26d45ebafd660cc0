"""Documents for a capture, in runs that are the same however many processes share them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightning_modules.processes import rank, world_size
from tl_nla.amounts import check_count
from tl_nla.data import Document, check_source, split_documents
from tl_nla.data.streams import stream_documents


class Run:
    """Documents in a row and the number of their run.

    No tuple and no dataclass: Lightning takes those apart, and frozen documents refuse.
    """

    def __init__(self, number: int, documents: list[Document]) -> None:
        self.number, self.documents = number, documents


class DocumentRuns(IterableDataset[Run]):
    """Runs of documents, each with its number; process r of k gets every k-th run from r on.

    Attributes:
        total: how many runs the source has, once its end was reached.
    """

    def __init__(self, source: str | Sequence[Document], documents: int, size: int, seed: int) -> None:
        self.source, self.documents, self.size, self.seed = source, documents, size, seed
        self.total: int | None = None

    def __iter__(self) -> Iterator[Run]:
        source: Iterable[Document]
        if isinstance(self.source, str):
            source = stream_documents(self.source, self.documents, self.seed)
        else:
            source = self.source
        stream, number = islice(source, self.documents), 0
        while run := list(islice(stream, self.size)):
            if number % world_size() == rank():
                yield Run(number, run)
            number += 1
        self.total = number


class DocumentDataModule(L.LightningDataModule):
    """Streams documents to :class:`lightning_modules.ActivationCapture`; never more than one run is in memory.

    Args:
        source: see :func:`tl_nla.data.load_documents`, or the documents themselves.
        documents: how many are read at most.
        documents_per_shard: documents that end up in one file: what a kill can cost each process.
        heldout: share held out, by the hash of a document's text.
        seed: of the world's stories.
    """

    def __init__(
        self, source: Any = "world", documents: int = 8000, documents_per_shard: int = 256, heldout: float = 0.1,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if isinstance(source, str):
            check_source(source)
        for name, value in (("documents", documents), ("documents_per_shard", documents_per_shard)):
            check_count(name, value)
        split_documents([], heldout)
        self.source, self.documents, self.documents_per_shard = source, documents, documents_per_shard
        self.heldout, self.seed = heldout, seed
        self.runs = DocumentRuns(source, documents, documents_per_shard, seed)

    def settings(self) -> dict[str, Any]:
        """What decides which documents are in which file."""
        source = self.source if isinstance(self.source, str) else f"{len(self.source)} documents"
        return {"source": source, "documents": self.documents, "documents_per_shard": self.documents_per_shard,
                "heldout": self.heldout, "stories": self.seed}  # fmt: skip

    def transfer_batch_to_device(self, batch: Run, device: torch.device, dataloader_idx: int) -> Run:
        """Texts stay where they are."""
        return batch

    def predict_dataloader(self) -> DataLoader[Any]:
        """Runs of documents with their numbers."""
        return DataLoader(self.runs, batch_size=None, collate_fn=_as_it_is)


def _as_it_is(run: Any) -> Any:
    """Without torch's conversion, which makes lists of tuples."""
    return run
