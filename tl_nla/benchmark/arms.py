"""What the arms of several suites share: the cap of an explanation, and rows of other documents."""

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.errors import InputError

MAX_NEW_TOKENS = 110


def shuffle_across_documents(document: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
    """For every row a row of another document, each row used about once.

    Raises:
        InputError: when all rows are of one document.
    """
    if len(document.unique()) < 2:
        raise InputError("shuffling needs rows of at least two documents")
    order = torch.randperm(len(document), generator=torch.Generator().manual_seed(seed))
    for shift in range(1, len(document)):
        other = torch.empty_like(order)
        other[order] = order.roll(shift)
        same = document[other] == document
        if not same.any():
            return other
        if shift > 20:
            break
    different = [torch.nonzero(document != document[row]).flatten() for row in torch.nonzero(same).flatten()]
    other[same] = torch.stack([rows[seed % len(rows)] for rows in different])
    return other
