"""The two trainings of a diff oracle as plain loops over stored writes, with learning curves.

The Lightning modules of :mod:`lightning_modules.diff` train on any hardware; these loops are for the many small
readers that a comparison of arms needs, where every arm must see the same rows in the same order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.diff import WriteTexts, collate_writes
from lightning_modules.muon import MuonWithAdamW
from lightning_modules.precision import matmul_precision
from lightning_modules.schedules import flat_then_down
from tl_nla.nla.batching import evaluating
from tl_nla.oracle import Reader, WriteReconstructor


@dataclass(frozen=True)
class FitConfig:
    """How one part is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: rows a step.
        learning_rate: of Muon; a tenth of it for AdamW's parameters.
        seed: of the order of rows.
        curve: at how many evenly spaced steps the held-out score is taken.
        precision: of matrix products (:mod:`lightning_modules.precision`).
    """

    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 0.01
    seed: int = 0
    curve: int = 6
    precision: str = "highest"


@dataclass
class Curve:
    """Held-out scores along a training: step counts and whatever the scoring function gave at each."""

    steps: list[int] = field(default_factory=list)
    scores: list[Any] = field(default_factory=list)


def fit_reconstructor(
    reconstructor: WriteReconstructor, texts: Sequence[str], write: Tensor, config: FitConfig,
    score: Callable[[], Any] | None = None,
) -> Curve:  # fmt: skip
    """Teach a reconstructor to rebuild writes from texts.

    Args:
        reconstructor: trained in place.
        texts: one a write.
        write: ``[n, d_model]``.
        config: steps, rate, order.
        score: called along the way, for the learning curve.
    """

    def loss(rows: Tensor) -> Tensor:
        return reconstructor.loss([texts[row] for row in rows.tolist()], write[rows])

    return _fit(reconstructor, loss, len(texts), config, score)


def fit_reader(reader: Reader, items: WriteTexts, config: FitConfig, score: Callable[[], Any] | None = None) -> Curve:
    """Teach a reader the right words for writes.

    Args:
        reader: trained in place.
        items: explanations and answers.
        config: steps, rate, order.
        score: called along the way, for the learning curve.
    """

    def loss(rows: Tensor) -> Tensor:
        batch = collate_writes([items[row] for row in rows.tolist()])
        return reader.loss(batch["before"], batch["write"], batch["questions"], batch["texts"])

    return _fit(reader, loss, len(items), config, score)


def _fit(
    module: nn.Module, loss: Callable[[Tensor], Tensor], count: int, config: FitConfig,
    score: Callable[[], Any] | None,
) -> Curve:  # fmt: skip
    optimizer = MuonWithAdamW(module.named_parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: flat_then_down(step, config.steps))
    generator = torch.Generator().manual_seed(config.seed)
    order = torch.empty(0, dtype=torch.long)
    curve = Curve()
    marks = {round(config.steps * (place + 1) / config.curve) for place in range(config.curve)}
    module.train()
    with matmul_precision(module, config.precision):
        for step in range(1, config.steps + 1):
            if len(order) < config.batch_size:
                order = torch.cat([order, torch.randperm(count, generator=generator)])
            rows, order = order[: config.batch_size], order[config.batch_size :]
            optimizer.zero_grad()
            loss(rows).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if score is not None and step in marks:
                curve.steps.append(step)
                with evaluating(module), matmul_precision(module, "highest"):
                    curve.scores.append(score())
    module.eval()
    return curve
