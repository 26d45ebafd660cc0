"""Writes of single heads on documents of every kind, kept once: model runs take longer than everything after them."""

import json
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.model.text import TextEncoder
from tl_nla.oracle.labels.directions import head_basis

CONTEXT = 16
"""Tokens kept of what stands before each position, the position's own first."""
_FIRST = 20
"""Positions below this are left out: their context is too short to compare."""


@dataclass(frozen=True)
class HeadRows:
    """What was captured, one row a position.

    Attributes:
        sites: names of the heads.
        write: of each site, in the coordinates of its basis: ``[sites, rows, d_head]``.
        basis: of each site: ``[sites, d_model, d_head]``.
        before: the state before the block of each site's layer: ``[sites, rows, d_model]`` in bfloat16.
        context: token ids, the position's own first: ``[rows, CONTEXT]``.
        document: number of the document.
        kind: number of the kind of text.
        held: whether the document is held out.
        counts: how often each token occurs in the training documents.
    """

    sites: tuple[str, ...]
    write: Tensor
    basis: Tensor
    before: Tensor
    context: Tensor
    document: Tensor
    kind: Tensor
    held: Tensor
    counts: Tensor

    def save(self, path: Path) -> None:
        """Write all of it as safetensors."""
        tensors = {field.name: getattr(self, field.name).contiguous() for field in fields(self)[1:]}
        save_file(tensors, path, metadata={"sites": json.dumps(self.sites)})

    @classmethod
    def load(cls, path: Path) -> "HeadRows":
        """Read what was saved."""
        with safe_open(path, framework="pt") as opened:
            tensors = {field.name: opened.get_tensor(field.name) for field in fields(cls)[1:]}
            return cls(tuple(json.loads(opened.metadata()["sites"])), **tensors)


def read_corpus(path: Path, each: int, skipped: int = 0) -> list[tuple[str, str, str]]:
    """Kind, document and text of the first piece of up to ``each`` documents a kind, in the order of their hashes.

    Args:
        path: of a side of the corpus.
        each: documents a kind.
        skipped: how many of them are left out, the first ones.

    Raises:
        InputError: when there is no such corpus.
    """
    if not path.is_file():
        raise InputError(f"no corpus at {path}; `make corpus` builds one")
    first: dict[str, dict[str, str]] = defaultdict(dict)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if len(row["text"]) > 600:
                first[row["kind"]].setdefault(row["document"], row["text"])
    return [(kind, name, texts[name]) for kind, texts in sorted(first.items()) for name in sorted(texts)[skipped:each]]


@torch.no_grad()
def capture_heads(
    target: Any, corpus: Path, sites: tuple[str, ...], documents: tuple[int, int] = (32, 10), tokens: int = 192,
    positions: int = 24,
) -> HeadRows:  # fmt: skip
    """Read heads on training and held-out documents.

    Args:
        target: model and tokenizer.
        corpus: folder with ``train.jsonl`` and ``held_out.jsonl``.
        sites: heads.
        documents: training and held-out documents a kind.
        tokens: of each document, at most.
        positions: drawn from each document.
    """
    model, encode = target.model, TextEncoder(target.tokenizer, target.model)
    generator = torch.Generator().manual_seed(0)
    kinds: dict[str, int] = {}
    parts: dict[str, list[Tensor]] = defaultdict(list)
    counts = torch.zeros(int(model.cfg.d_vocab), dtype=torch.long)
    basis = torch.stack([head_basis(model, site) for site in sites])
    number = 0
    for name, each, held in (("train.jsonl", documents[0], False), ("held_out.jsonl", documents[1], True)):
        for kind, _, text in read_corpus(corpus / name, each):
            ids = encode(text).ids
            if not held:
                counts += torch.bincount(torch.tensor(ids), minlength=len(counts))
            if len(ids) < _FIRST + positions:
                continue
            ids = ids[: min(tokens, int(model.cfg.n_ctx))]
            places = sorted((torch.randperm(len(ids) - _FIRST, generator=generator)[:positions] + _FIRST).tolist())
            reading = read(model, torch.tensor([ids]), sites, places)
            parts["write"].append(
                torch.stack([reading.precise(site) @ basis[i] for i, site in enumerate(sites)], dim=1)
            )
            parts["before"].append(torch.stack([reading.before(site).bfloat16() for site in sites], dim=1))
            parts["context"].append(torch.tensor([[ids[place - back] for back in range(CONTEXT)] for place in places]))
            shape = (len(places),)
            parts["document"].append(torch.full(shape, number))
            parts["kind"].append(torch.full(shape, kinds.setdefault(kind, len(kinds))))
            parts["held"].append(torch.full(shape, held))
            number += 1
    joined = {key: torch.cat(value) for key, value in parts.items()}
    joined["write"], joined["before"] = joined["write"].transpose(0, 1), joined["before"].transpose(0, 1)
    return HeadRows(sites, basis=basis, counts=counts, **joined)
