"""Words-only recovery, row by row: stored, read, and turned into rows of the results contract."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_nla.benchmark.bootstrap import fve_interval, mean_interval
from tl_nla.benchmark.results import Row
from tl_nla.benchmark.row_store import read_rows, write_rows
from tl_nla.benchmark.words_only import WrittenResiduals, divergence, output_logits


@dataclass
class Recoveries:
    """Words-only recovery of one seed, row by row.

    Attributes:
        seed: of data and training.
        document: of each position.
        kl: arm -> KL to the clean prediction after 0, 1, ... all layers, ``[told, n]``.
        same: arm -> whether the likeliest token is that of the clean model, ``[told, n]``.
    """

    seed: int
    document: Tensor
    kl: dict[str, Tensor] = field(default_factory=dict)
    same: dict[str, Tensor] = field(default_factory=dict)


def save_recoveries(parts: Sequence[Recoveries], path: Path) -> None:
    """Store the rows of several seeds in one safetensors file."""
    named: dict[str, Tensor] = {}
    for part in parts:
        named[f"{part.seed}/document"] = part.document.clone()
        named |= {f"{part.seed}/kl/{arm}": value.float().clone() for arm, value in part.kl.items()}
        named |= {f"{part.seed}/same/{arm}": value.to(torch.uint8).clone() for arm, value in part.same.items()}
    write_rows(path, named)


def load_recoveries(path: Path) -> list[Recoveries]:
    """Rows stored by :func:`save_recoveries`.

    Raises:
        InputError: when there is no such file.
    """
    found, _ = read_rows(path, "train them with lightning_modules.training.contribution")
    seeds = sorted({int(name.partition("/")[0]) for name in found})
    parts = {seed: Recoveries(seed, found[f"{seed}/document"]) for seed in seeds}
    for name, value in found.items():
        seed, kind, *arm = name.split("/")
        if arm:
            getattr(parts[int(seed)], kind)[arm[0]] = value if kind == "kl" else value.bool()
    return list(parts.values())


def recovery_rows(parts: Sequence[Recoveries]) -> list[Row]:
    """Rows of the words-only recovery: all layers told, and the cumulative curve."""
    rows: list[Row] = []
    for arm in parts[0].kl:
        having = [part for part in parts if arm in part.kl]
        documents = torch.cat([part.document for part in having])
        seeds = torch.cat([torch.full_like(part.document, part.seed) for part in having])
        kl = torch.cat([part.kl[arm].double() for part in having], 1)
        last = len(kl) - 1
        for told in range(1, last + 1):
            interval = fve_interval(kl[told], kl[0], documents, seeds, generator=_generator())
            rows.append(Row.of(arm, "kl_recovered", interval, layer=told - 1))
        rows.append(Row.of(arm, "kl_recovered", interval))  # that of the last layer is the whole
        if all("constant" in part.kl for part in having):
            usual = torch.cat([part.kl["constant"][last].double() for part in having])
            interval = fve_interval(kl[last], usual, documents, seeds, generator=_generator())
            rows.append(Row.of(arm, "kl_recovered/constant", interval))
        if arm in having[0].same:
            same = torch.cat([part.same[arm][last].double() for part in having])
            rows.append(Row.of(arm, "top1_agreement", mean_interval(same, documents, seeds, generator=_generator())))
    return [row for row in rows if math.isfinite(row.value)]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def partial_states(
    residuals: WrittenResiduals, rebuilt: Float[Tensor, "n site d_model"], mean: Float[Tensor, "site d_model"]
) -> Float[Tensor, "told n d_model"]:
    """Last residual states with the writes of the first 0, 1, ... all layers from words, the others at their mean."""
    told = torch.arange(int(residuals.layers.max()) + 2)[:, None] > residuals.layers[None]
    known = torch.einsum("ts,nsd->tnd", told.to(rebuilt), rebuilt)
    usual = torch.einsum("ts,sd->td", (~told).to(mean), mean)
    return residuals.embed + residuals.rest + known + usual[:, None]


@torch.no_grad()
def recovery(
    model: Any, residuals: WrittenResiduals, rebuilt: Float[Tensor, "n site d_model"],
    mean: Float[Tensor, "site d_model"],
) -> tuple[Float[Tensor, "told n"], Bool[Tensor, "told n"]]:  # fmt: skip
    """KL to the clean prediction, and whether the likeliest token is the same, after 0, 1, ... all layers are told.

    Returns:
        One row for each number of layers told; the first (mean writes only) is the zero of "recovered".
    """
    clean = output_logits(model, residuals.final)
    kls, same = [], []
    for state in partial_states(residuals, rebuilt, mean):
        logits = output_logits(model, state)
        kls.append(divergence(clean, logits))
        same.append(logits.argmax(-1) == clean.argmax(-1))
    return torch.stack(kls), torch.stack(same)
