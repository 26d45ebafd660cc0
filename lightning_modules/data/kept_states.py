"""States of documents and their explanations, a run of documents at a time, as shards on the disk."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lightning_modules.processes import rank, wait, world_size
from tl_nla.data import Document, ExplainedStates, split_documents
from tl_nla.data.explained import StateCapture, explain_states
from tl_nla.data.progress import listening, told
from tl_nla.data.shards import (
    Shard,
    Texts,
    begin_capture,
    finish_capture,
    is_whole,
    read_shard,
    shard_path,
    write_shard,
)
from tl_nla.errors import InputError
from tl_nla.explainers.base import PlacedExplainer
from tl_nla.model.text import TextEncoder

DOCUMENTS = 256


@dataclass(frozen=True)
class StateReader:
    """How states of documents are read and explained.

    Attributes:
        model: the TransformerLens model.
        tokenizer: its tokenizer.
        site: residual-stream hook point.
        positions: drawn from each document.
        how: seed, batches, explainer and begin token.
    """

    model: Any
    tokenizer: Any
    site: str
    positions: int
    how: StateCapture

    def read(self, documents: Sequence[Document]) -> ExplainedStates:
        """States of documents of which at least one is long enough."""
        return explain_states(self.model, self.tokenizer, documents, self.site, self.positions, how=self.how)

    def shard(self, documents: Sequence[Document], first: int, heldout: float, dtype: torch.dtype) -> Shard:
        """Rows of a run of documents, those to train on before the held-out ones.

        Args:
            documents: the run.
            first: number of its first document in the source.
            heldout: share of documents held out.
            dtype: of the states.
        """
        numbers = {document.id: first + place for place, document in enumerate(documents)}
        sides = [self._side(side) for side in split_documents(documents, heldout)]
        train = 0 if sides[0] is None else len(sides[0][1])
        found = [side for side in sides if side is not None]
        return _packed(found, numbers, train, dtype, int(self.model.cfg.d_model))

    def _side(self, documents: list[Document]) -> tuple[list[Document], ExplainedStates] | None:
        encode, explainer = TextEncoder(self.tokenizer, self.model, self.how.prepend_bos), self.how.explainer
        # A document needs a token after the first position; one word of a long text is enough to look at.
        long = [document for document in documents if len(encode(document.text[:200])) > 1]
        if isinstance(explainer, PlacedExplainer):
            tokens = [encode(document.text) for document in long]
            long = [document for document, ids in zip(long, tokens, strict=True)
                    if explainer.positions(document, len(ids) - ids.added)]  # fmt: skip
        return (long, self.read(long)) if long else None


def kept_states(
    folder: Path, settings: dict[str, Any], reader: StateReader, documents: Sequence[Document], heldout: float
) -> tuple[ExplainedStates, ExplainedStates]:
    """States to train on and held-out ones, kept in a folder: what is there is read, the rest captured.

    Each process captures its share of the runs. The folder can also be served by ``CapturedDataModule``.

    Args:
        folder: of the shards; one with other settings is refused.
        settings: what decides the rows, beside the documents.
        reader: reads and explains.
        documents: all of them.
        heldout: share of documents held out.

    Raises:
        InputError: when the folder holds another capture, or one side of the split is empty.
    """
    texts = json.dumps([[document.id, document.text, str(dict(document.notes))] for document in documents])
    known = {"texts": hashlib.sha256(texts.encode()).hexdigest()[:16], "heldout": heldout,
             "documents_per_shard": DOCUMENTS}  # fmt: skip
    if rank() == 0:
        begin_capture(folder, {**settings, **known})
    wait()
    runs = [documents[first : first + DOCUMENTS] for first in range(0, len(documents), DOCUMENTS)]
    for number, run in enumerate(told(runs, "capturing states")):
        path = shard_path(folder, number)
        if number % world_size() == rank() and not is_whole(path):
            with listening(None):
                write_shard(folder, number, reader.shard(run, number * DOCUMENTS, heldout, torch.float32))
    wait()
    if rank() == 0:
        finish_capture(folder, len(runs))
    wait()
    shards = [read_shard(shard_path(folder, number)) for number in range(len(runs))]
    return _rows(shards, True), _rows(shards, False)


def read_kept(folder: Path) -> ExplainedStates:
    """The training rows that a finished capture kept.

    Raises:
        InputError: when the folder holds none.
    """
    count = 0
    while is_whole(shard_path(folder, count)):
        count += 1
    if not count:
        raise InputError(f"{folder} holds no captured states; give the cache_dir of a training")
    return _rows([read_shard(shard_path(folder, number)) for number in range(count)], True)


def _rows(shards: list[Shard], train: bool) -> ExplainedStates:
    """The rows of one side of the split; what the explainer knew to be true is not kept."""
    parts = [(shard, slice(0, shard.train) if train else slice(shard.train, len(shard))) for shard in shards]
    numbers = torch.cat([shard.document[own] for shard, own in parts])
    named = {name: [getattr(shard, name)[row] for shard, own in parts for row in range(len(shard))[own]]
             for name in ("explanations", "contexts")}  # fmt: skip
    return ExplainedStates(
        acts=torch.cat([shard.acts[own] for shard, own in parts]).float(), truths=[None] * len(numbers),
        document=torch.unique(numbers, return_inverse=True)[1],
        position=torch.cat([shard.position[own] for shard, own in parts]), **named,
    )  # fmt: skip


def _packed(
    sides: list[tuple[list[Document], ExplainedStates]], numbers: dict[str, int], train: int, dtype: torch.dtype,
    width: int,
) -> Shard:  # fmt: skip
    ids = [numbers[documents[row].id] for documents, states in sides for row in states.document.tolist()]
    return Shard(
        acts=torch.cat([torch.empty(0, width), *(states.acts for _, states in sides)]).to(dtype),
        explanations=Texts.pack([text for _, states in sides for text in states.explanations]),
        contexts=Texts.pack([text for _, states in sides for text in states.contexts]),
        document=torch.tensor(ids, dtype=torch.long),
        position=torch.cat([torch.empty(0, dtype=torch.long), *(states.position for _, states in sides)]),
        train=train,
    )
