"""Scores of words about writes: which of ten writes they are about, and what leaving the write out does."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from docs.studies.real_states import LayerStates
from docs.studies.smollm2_diffs.arms import HIGH, LOW, Explained, tell_writes
from docs.studies.smollm2_diffs.differs import Told
from docs.studies.smollm2_nla.score import another_document
from tl_nla.faithfulness.causal import outputs_after
from tl_nla.metrics import cosine
from tl_nla.oracle.labels import Lens


def write_rows(smol: Any, states: LayerStates, train: dict[int, Tensor], found: Explained) -> list[dict[str, Any]]:
    """One row a write: rank of the right candidate by arm and reader, the amounts told, and the true skip effect."""
    between = list(range(LOW, HIGH + 1))
    writes = [states.acts[layer] - states.acts[layer - 1] for layer in between[1:]]
    arms, said, back = tell_writes(smol, states, found, writes, [states.acts[layer] for layer in between[:-1]])
    write = states.acts[HIGH] - states.acts[LOW]
    usual = (train[HIGH] - train[LOW]).mean(0)
    groups = _groups(states.held.states.document.tolist())
    lens = Lens.of(smol.model)
    effect = _skip_effect(smol.model, states, write)
    rows: list[dict[str, Any]] = []
    for row, name in enumerate(states.held.names):
        rows.append({"document": name, "kl": round(float(effect[row]), 4), "right": {}, "amount": {}})
        rows[row]["size"] = round(float(write[row].norm() / states.acts[LOW][row].norm()), 3)
    read = {name: vectors for name, vectors in found.read.items()} | {"oracle": back}
    read["shuffled"] = read["moved"][another_document(states.held.names)]
    for group in groups:
        own = lens.read(write[group] - usual)
        plain = write[group] - usual
        for arm, told in arms.items():
            for row in group:
                rows[row]["right"][f"{arm}/words"] = _first_place(_by_words(told[row], own, lens, smol.tokenizer),
                                                                 group.index(row))  # fmt: skip
                rows[row]["amount"][arm] = told[row].amount
        for arm, vectors in read.items():
            centre = vectors.mean(0)
            for row in group:
                near = cosine((vectors[row] - centre).expand(len(group), -1), plain)
                rows[row]["right"][f"{arm}/reconstructor"] = _first_place(near, group.index(row))
    for arm, vectors in read.items():
        for row, length in zip(rows, vectors.norm(dim=1).tolist(), strict=True):
            row["amount"][f"{arm}/reconstructor"] = round(length, 2)
    for row, text in zip(rows, said, strict=True):
        row["language_model"] = text
    for name, pair in found.texts.items():
        for row, earlier, later in zip(rows, *pair, strict=True):
            row.setdefault("said", {})[name] = [earlier, later]
    return rows


def _groups(documents: list[int]) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    for row, document in enumerate(documents):
        found.setdefault(document, []).append(row)
    return [group for group in found.values() if len(group) > 1]


def _by_words(told: Told, candidates: Tensor, lens: Lens, tokenizer: Any) -> Tensor:
    """How well each candidate fits: cosine with the directions of the words that came in minus those that went."""
    found = torch.zeros(candidates.shape[1])
    for words, sign in ((told.more, 1.0), (told.less, -1.0)):
        ids = [tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in words if word]
        if ids:
            directions = lens.weight[:, ids].float()
            directions = directions if lens.mean is None else directions - lens.mean[:, None]
            found = found + sign * (directions / directions.norm(dim=0)).sum(1) / len(ids)
    return cosine(found.expand(len(candidates), -1), candidates)


def _first_place(scores: Tensor, right: int) -> float:
    """The share of the first place that the right candidate has: candidates that tie share it."""
    first = (scores >= scores.max() - 1e-9).double()
    return round(float(first[right] / first.sum()), 3)


def _skip_effect(model: Any, states: LayerStates, write: Tensor) -> Tensor:
    """KL divergence of the next-token distribution without the write from the model's own, nats."""
    places = [len(ids) - 1 for ids in states.ids]
    point = f"blocks.{HIGH}.hook_resid_post"
    kinds: Sequence[Tensor] = (torch.zeros_like(write), -write)
    clean, without = (outputs_after(model, states.ids, places, point, change, 20) for change in kinds)
    return (clean.exp() * (clean - without)).sum(1)
