"""How a write stands to the state that it is added to: along it, across it or against it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, hardshrink

from tl_nla.oracle.labels.levels import Levels

ALIGNMENTS = ("against", "across", "along")
"""Words for the cosine of write and state: below ``-ALIGNED``, in between, and above ``ALIGNED``."""
ALIGNED = 0.2
"""Cosine from which on a write counts as along the state, or with the sign turned as against it."""


def alignment(write: Float[Tensor, "n d_model"], before: Float[Tensor, "n d_model"]) -> Int[Tensor, " n"]:
    """Index into ``ALIGNMENTS`` of each write, -1 where the write or the state is zero and has no direction.

    The sizes of both do not matter, and with the sign of one turned "along" becomes "against".
    """
    write, before = write.float(), before.float()
    level = 1 + torch.sign(hardshrink(cosine_similarity(write, before, dim=-1), ALIGNED)).long()
    return level.masked_fill((write == 0).all(-1) | (before == 0).all(-1), -1)


ALIGNMENT = Levels(
    "alignment", "Does this write point along the state it is added to, across it or against it?", " before",
    ALIGNMENTS, alignment,
)  # fmt: skip
