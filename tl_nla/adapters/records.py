"""What an adapter keeps of each forward pass, and putting the passes together again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from tl_nla.model.positions import warn_of_padding


@dataclass
class ForwardRecord:
    """Readings of one forward pass at its newest columns.

    Attributes:
        first_row: number of the batch's first row among all rows read.
        batch: rows of the batch.
        first_column: number of the first new column within its text.
        width: how many columns are new (the pass's last ones).
        row: row within the batch, for each of the n chosen places.
        column: column among the new ones.
        position: number among the row's real tokens.
        values: activations by hook point, ``[n, ...]``.
        ids: token ids of the new columns, where the model shows them to hooks.
    """

    first_row: int
    batch: int
    first_column: int
    width: int
    row: Int[Tensor, " n"]
    column: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    values: dict[str, Tensor] = field(default_factory=dict)
    ids: Tensor | None = None

    def keep(self, name: str, activation: Shaped[Tensor, "batch pos *rest"]) -> None:
        """Copy the chosen places of an activation."""
        with torch.inference_mode(False):  # so that the copy can be used anywhere
            row = self.row.to(activation.device)
            column = self.column.to(activation.device) + activation.shape[1] - self.width
            self.values[name] = activation.detach()[row, column].clone()

    def keep_ids(self, ids: Int[Tensor, "batch pos"]) -> None:
        """Copy the new columns' token ids."""
        with torch.inference_mode(False):
            self.ids = ids.detach()[:, ids.shape[1] - self.width :].cpu().clone()

    def warn_of_padding(self, tokenizer: Any) -> None:
        """Warn where what was chosen of a prompt looks like padding."""
        if self.ids is not None and self.first_column == 0:
            chosen = torch.zeros(self.batch, self.width, dtype=torch.bool)
            chosen[self.row, self.column] = True
            warn_of_padding(self.ids, chosen, tokenizer)


def places(records: Sequence[ForwardRecord]) -> tuple[Tensor, Tensor, Tensor]:
    """Row among all rows, column within the text and position of every reading, in the order of the passes."""
    row = torch.cat([record.row + record.first_row for record in records])
    column = torch.cat([record.column + record.first_column for record in records])
    return row, column, torch.cat([record.position for record in records])


def known_ids(records: Sequence[ForwardRecord]) -> Int[Tensor, "rows columns"]:
    """Token ids of all texts, right-padded; -1 where an id was not seen."""
    rows = max(record.first_row + record.batch for record in records)
    columns = max(record.first_column + record.width for record in records)
    ids = torch.full((rows, columns), -1, dtype=torch.long)
    for record in records:
        if record.ids is not None:
            end = record.first_column + record.width
            ids[record.first_row : record.first_row + record.batch, record.first_column : end] = record.ids
    return ids
