"""Scores of stored oracle rows taken again with an oracle that is there, without any training."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.evaluation.oracle_rows import OracleRows
from tl_nla.evaluation.oracle_score import named_sources, named_words
from tl_nla.oracle import CaptureConfig, DiffOracle, LabelledWrites, capture_writes
from tl_nla.oracle.labels import Vocabulary


def rescore_lists(
    rows: OracleRows, oracle: DiffOracle, model: Any, tokenizer: Any, documents: Sequence[Document],
    vocabulary: Vocabulary, top_k: int,
) -> None:  # fmt: skip
    """Ask an oracle for promoted and suppressed words and for distant sources again, on the rows that were scored.

    Args:
        rows: of this oracle; their scores of these questions are replaced.
        oracle: that answers.
        model: whose writes they are.
        tokenizer: its tokenizer.
        documents: the held-out documents of the rows.
        vocabulary: the words that labels may name.
        top_k: words on each side of a label.

    Raises:
        InputError: when the documents are not those of the rows.
    """
    each = len(rows.position[(rows.document == rows.document[0]) & (rows.site == rows.site[0])])
    config = CaptureConfig(each, top_k, skips=False, seed=rows.seed)
    used = documents[: int(rows.document.max()) + 1]
    held = capture_writes(model, tokenizer, used, rows.sites, config, vocabulary)
    held = held.select(place_of_rows(rows, held))
    rows.counts |= named_words(oracle, held) | named_sources(oracle, held)


def place_of_rows(rows: OracleRows, writes: LabelledWrites) -> Int[Tensor, " n"]:
    """Where each stored row stands among captured writes.

    Raises:
        InputError: when a row is not there: the writes are of other documents or positions.
    """

    def keys(of: OracleRows | LabelledWrites) -> list[tuple[int, int, str]]:
        sites = [of.sites[site] for site in of.site.tolist()]
        return list(zip(of.document.tolist(), of.position.tolist(), sites, strict=True))

    places, wanted = {key: place for place, key in enumerate(keys(writes))}, keys(rows)
    missing = [key for key in wanted if key not in places]
    if missing:
        raise InputError(f"{len(missing)} of {len(wanted)} rows are not in these documents; give those they are of")
    return torch.tensor([places[key] for key in wanted])
