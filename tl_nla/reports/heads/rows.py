"""The writes of a layer's heads at the drawn positions, read back from the parts of the reading."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.reports.heads.parts import opened
from tl_nla.reports.heads.texts import Texts

COMMON = ("document", "column")
OWN = ("z", "source", "share")


@dataclass(frozen=True)
class Rows:
    """One row a drawn position.

    Attributes:
        document: number of each row's document.
        column: its position.
        heldout: whether its document is held out.
        z: see :class:`tl_nla.reports.heads.watch.LayerRead`, as the two below.
        source: columns of the strongest sources.
        share: their attention.
    """

    document: Int[Tensor, " n"]
    column: Int[Tensor, " n"]
    heldout: Bool[Tensor, " n"]
    z: Float[Tensor, "n head width"]
    source: Int[Tensor, "n head k"]
    share: Float[Tensor, "n head k"]

    @classmethod
    def load(cls, paths: Sequence[Path], layer: int, texts: Texts) -> "Rows":
        """The rows of a layer; one layer is held at a time."""
        found: dict[str, list[Tensor]] = {name: [] for name in (*COMMON, *OWN)}
        for path in paths:
            with opened(path) as file:
                for name in COMMON:
                    found[name].append(file.get_tensor(name))
                for name in OWN:
                    found[name].append(file.get_tensor(f"{layer}.{name}"))
        joined = {name: torch.cat(values) for name, values in found.items()}
        heldout = torch.tensor(texts.heldout)[joined["document"]]
        return cls(heldout=heldout, **joined)
