"""Whether a head raises the token that it reads: the copying of Elhage et al. 2021, measured on what the head does.

The weights alone (positive eigenvalues of the full OV circuit) leave aside what stands between embedding and head. Here
what a write has beside the head's mean is read through the unembedding. Of the token that the head attends to most and
another token of the same text, which gains more?
"""

import random
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.oracle.labels import Lens
from tl_nla.reports.heads.rows import Rows
from tl_nla.reports.heads.texts import Texts

LEAST_READ, FEWEST, OTHERS = 0.1, 16, 8
"""Attention that a source needs to count as read; writes that are needed for a score; tokens compared with each."""


def copying_score(
    lens: Lens, texts: Texts, rows: Rows, head: int, written: tuple[Float[Tensor, "n k"], Float[Tensor, "d_model k"]]
) -> dict[str, Any]:
    """How often the token read most gains more than another one of the text, ties half; .5 is chance.

    Returns:
        ``copying`` (``None`` for a head that reads next to nothing beside the first token) and the number of
        writes it is over.
    """
    numbers, pairs = [], []
    main = rows.source[:, head, 0].tolist()
    for row in torch.nonzero(rows.share[:, head, 0] >= LEAST_READ).flatten().tolist():
        ids = texts.ids[int(rows.document[row])]
        own = ids[main[row]]
        others = sorted({token for token in ids[1 : int(rows.column[row]) + 1] if token != own})
        if main[row] > 0 and others:
            numbers.append(row)
            pairs.append([own, *random.Random(row).choices(others, k=OTHERS)])
    if len(numbers) < FEWEST:
        return {"copying": None, "copied_over": len(numbers)}
    tokens = torch.tensor(pairs)
    known, place = tokens.unique(return_inverse=True)
    writes, basis = written
    # Tokens that the head always promotes, whatever it reads, say nothing of copying.
    gains = (writes[numbers] - writes.mean(0)) @ _token_directions(lens, known, basis).T
    gain = gains.gather(1, place.to(gains.device))
    won = (gain[:, :1] > gain[:, 1:]).float() + 0.5 * (gain[:, :1] == gain[:, 1:]).float()
    return {"copying": won.mean().item(), "copied_over": len(numbers)}


def _token_directions(lens: Lens, tokens: Tensor, basis: Tensor) -> Float[Tensor, "token k"]:
    """What the logits of some tokens read of a write, in the coordinates of the basis."""
    columns = lens.weight.T[tokens.to(lens.weight.device)].float()
    columns = columns if lens.gain is None else columns * lens.gain
    columns = columns - columns.mean(-1, keepdim=True) if lens.centred else columns
    return columns @ basis.to(columns)
