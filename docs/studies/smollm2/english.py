"""Readers that know English and nothing of a code: what two words have to do with each other.

``embeddings`` are SmolLM2's own. ``company`` comes from the training documents alone: which words stand near which.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tl_nla.oracle.words.tables import unit_rows

_WINDOW, _WIDTH, _POWER = 5, 128, 0.75


def embeddings(model: Any, words: Tensor) -> Tensor:
    """SmolLM2's embeddings of the words, their mean left out, each of length 1."""
    rows = model.W_E.detach().float()[words]
    return unit_rows(rows - rows.mean(0))


def company(tokenizer: Any, corpus: Path, words: Tensor, every: int = 2) -> Tensor:
    """Vectors of words from the words that stand near them, each of length 1.

    Positive pointwise mutual information within five tokens, its largest singular vectors (Levy & Goldberg 2014).

    Args:
        tokenizer: of the model; it says where words begin, no more.
        corpus: folder of ``make corpus``; its training side is read.
        words: token ids.
        every: one of so many pieces is read.
    """
    place = torch.full((len(tokenizer),), -1)
    place[words] = torch.arange(len(words))
    counts = torch.zeros(len(words), len(words))
    with (corpus / "train.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number % every:
                continue
            row = place[torch.tensor(tokenizer(json.loads(line)["text"])["input_ids"])]
            for back in range(1, _WINDOW + 1):
                left, right = row[:-back], row[back:]
                both = (left >= 0) & (right >= 0)
                counts.index_put_((left[both], right[both]), torch.tensor(1 / back), accumulate=True)
    counts = counts + counts.T
    near = counts.sum(0) ** _POWER
    expected = counts.sum(1, keepdim=True) * (near / near.sum())[None]
    shared = (counts / expected.clamp_min(1e-9)).clamp_min(1e-9).log().clamp_min(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        left, size, _ = torch.svd_lowrank(shared, _WIDTH, niter=4)
    return unit_rows(left * size.sqrt())
