"""How much of each head's write the explanations of an oracle hold, on a few writes of held-out documents."""

import hashlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.metrics import fve, normalise
from tl_nla.model.probe import device_of
from tl_nla.model.reading import read
from tl_nla.oracle.known_sites import site_settings
from tl_nla.reports.heads.rows import Rows
from tl_nla.reports.heads.texts import Texts


def said_by(oracle: Any, width: int) -> str:
    """What tells one oracle from another: its words for two fixed vectors, and the writes that they give back."""
    vectors = torch.randn(2, 2, width, generator=torch.Generator().manual_seed(0))
    texts = oracle.explain(vectors[0], vectors[1])
    rebuilt = [f"{value:.4g}" for value in oracle.reconstruct(texts).float().norm(dim=-1).tolist()]
    return hashlib.sha256(repr((texts, rebuilt)).encode()).hexdigest()[:12]


def oracle_fve(
    oracle: Any, rows: Rows, weight: Float[Tensor, "head width d_model"], where: tuple[Any, int, Texts, int]
) -> list[dict[str, Any]]:
    """FVE of an oracle's explanations for every head of a layer; the baseline is the head's own mean write.

    Returns:
        ``fve_oracle`` and ``oracle_rows`` of each head; ``None`` where no document is held out.
    """
    model, layer, texts, count = where
    held, heads = torch.nonzero(rows.heldout).flatten(), len(weight)
    if not len(held) or bool(rows.heldout.all()):
        return [{"fve_oracle": None, "oracle_rows": 0} for _ in range(heads)]
    chosen = held[torch.linspace(0, len(held) - 1, min(count, len(held))).long()].tolist()
    writes, before = [], []
    for row in chosen:
        number, column = int(rows.document[row]), int(rows.column[row])
        ids = torch.tensor(texts.ids[number][: column + 1], device=device_of(model))[None]
        reading = read(model, ids, [f"blocks.{layer}.attn.head.0"], -1)
        writes.append(reading.heads(layer)[0].float())
        before.append(reading.before(f"blocks.{layer}.attn.head.0").float().expand(heads, -1))
    flat = torch.cat(writes)
    known = site_settings(oracle, [f"blocks.{layer}.attn.head.{head}" for _ in chosen for head in range(heads)])
    said = oracle.explain(flat, torch.cat(before), **known)
    rebuilt = oracle.reconstruct(said).to(flat).unflatten(0, (len(chosen), heads))
    found = []
    for head in range(heads):
        mean = normalise(rows.z[~rows.heldout, head].to(weight) @ weight[head]).mean(0)
        own = torch.stack(writes)[:, head]
        score = fve(rebuilt[:, head], own, mean.to(own.device)).item()
        found.append({"fve_oracle": score if score == score else None, "oracle_rows": len(chosen)})
    return found
