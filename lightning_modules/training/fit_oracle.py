"""The two trainings of a diff oracle as plain loops over stored writes, with learning curves.

The Lightning modules of :mod:`lightning_modules.training.diff` train on any hardware; these loops are for the many
small readers that a comparison of arms needs, where every arm must see the same rows in the same order.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.training.diff import WriteTexts, collate_writes
from lightning_modules.training.muon import MuonWithAdamW
from lightning_modules.training.precision import matmul_precision
from lightning_modules.training.schedules import flat_then_down, known_optimizer
from tl_nla.errors import InputError
from tl_nla.nla.batching import evaluating
from tl_nla.oracle import Reader, WriteReconstructor

_ENCODED_AT_ONCE = 10_000


@dataclass(frozen=True)
class FitConfig:
    """How one part is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: rows a step.
        learning_rate: of Muon; a tenth of it for AdamW's parameters.
        seed: of the order of rows.
        down: share of a training over which its rate falls to nothing.
        curve: points of the learning curve.
        halved: whether these are the ends of shorter trainings, each half as long as the next, rather than evenly
            spaced steps of the one training.
        precision: of matrix products (:mod:`lightning_modules.training.precision`).
        optimizer: ``"muon"`` (with AdamW for what is no matrix), or ``"adamw"`` for everything.
    """

    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 0.01
    seed: int = 0
    down: float = 0.625
    curve: int = 6
    halved: bool = False
    precision: str = "highest"
    optimizer: str = "muon"

    def __post_init__(self) -> None:
        known_optimizer(self.optimizer)
        for name in ("steps", "batch_size", "curve"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        if not 0 < self.down <= 1:
            raise InputError(f"down is {self.down}; allowed: a share above 0, at most 1")

    def marks(self) -> list[int]:
        """Steps of the points of the learning curve."""
        halved = {max(1, self.steps >> times) for times in range(self.curve)}
        spaced = {round(self.steps * (place + 1) / self.curve) for place in range(self.curve)} - {0}
        return sorted(halved if self.halved else spaced)


@dataclass
class Curve:
    """Held-out scores of a training: step counts and whatever the scoring function gave at each.

    Where ``FitConfig.halved`` is set, each step count is a training of its own: it shares the level part of the whole
    one and then has a falling rate, so that its score is what a training of that length gives (Hägele et al. 2024,
    "Scaling laws and compute-optimal training beyond fixed training durations"). Half-way through one training the
    rate is high and scores are lower.
    """

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
        score: for the learning curve; without it there is none.
    """
    prompts = _Prompts(reconstructor, texts)

    def loss(rows: Tensor) -> Tensor:
        return reconstructor.loss_of_prompts(*prompts.batch(rows), write[rows])

    return fit(reconstructor, loss, len(texts), config, score)


def fit_reader(
    reader: Reader, items: WriteTexts, config: FitConfig, score: Callable[[], Any] | None = None,
    beside: Callable[[], Tensor] | None = None,
) -> Curve:  # fmt: skip
    """Teach a reader the right words for writes.

    Args:
        reader: trained in place.
        items: explanations and answers.
        config: steps, rate, order.
        score: for the learning curve; without it there is none.
        beside: a loss that is added to that of every batch.
    """

    def loss(rows: Tensor) -> Tensor:
        batch = collate_writes([items[row] for row in rows.tolist()])
        before, write, questions = batch["before"], batch["write"], batch["questions"]
        own = reader.loss(before, write, questions, reader.taught(before, write, questions, batch["texts"]))
        return own if beside is None else own + beside()

    return fit(reader, loss, len(items), config, score)


def fit(
    module: nn.Module, loss: Callable[[Tensor], Tensor], count: int, config: FitConfig,
    score: Callable[[], Any] | None = None,
) -> Curve:  # fmt: skip
    """Train any module.

    Args:
        module: trained in place; in evaluation mode afterwards.
        loss: of some rows, given by their numbers.
        count: how many rows there are; each pass is in an order of its own.
        config: steps, rate, order.
        score: for the learning curve; without it there is none.
    """
    run, curve = _Run(module, loss, count, config), Curve()
    module.train()
    with matmul_precision(module, config.precision):
        for mark in config.marks() if score else [config.steps]:
            level = run.branch_off(mark) if config.halved and mark < config.steps else None
            run.advance(mark, mark if level else config.steps)
            if score:
                curve.steps.append(mark)
                with evaluating(module), matmul_precision(module, "highest"):
                    curve.scores.append(score())
            if level:
                run.put_back(level)
    module.eval()
    return curve


class _Run:
    """A training that can go back to where it was."""

    def __init__(self, module: nn.Module, loss: Callable[[Tensor], Tensor], count: int, config: FitConfig) -> None:
        self.module, self.loss, self.count, self.config, self.step = module, loss, count, config, 0
        self.optimizer: torch.optim.Optimizer = (
            MuonWithAdamW(module.named_parameters(), config.learning_rate)
            if config.optimizer == "muon"
            else torch.optim.AdamW(module.parameters(), config.learning_rate)
        )
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.generator, self.order = torch.Generator().manual_seed(config.seed), torch.empty(0, dtype=torch.long)

    def advance(self, end: int, length: int) -> None:
        """Train up to step ``end`` with the rate of a training of ``length`` steps."""
        for step in range(self.step, end):
            share = flat_then_down(step, length, self.config.down)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = share * rate
            self.optimizer.zero_grad()
            self.loss(self._rows()).backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimizer.step()
        self.step = max(self.step, end)

    def branch_off(self, length: int) -> tuple[Any, ...]:
        """Train to where the rate of a training of ``length`` steps starts to fall, and copy what training changes."""
        self.advance(length - round(self.config.down * length), self.config.steps)
        parts = self.module.state_dict(), self.optimizer.state_dict(), self.generator.get_state(), self.order, self.step
        return copy.deepcopy(parts)

    def put_back(self, state: tuple[Any, ...]) -> None:
        """Go back to where a shorter training branched off."""
        weights, optimizer, drawn, self.order, self.step = state
        self.module.load_state_dict(weights)
        self.optimizer.load_state_dict(optimizer)
        self.generator.set_state(drawn)

    def _rows(self) -> Tensor:
        size = self.config.batch_size
        while len(self.order) < size:
            self.order = torch.cat([self.order, torch.randperm(self.count, generator=self.generator)])
        rows, self.order = self.order[:size], self.order[size:]
        return rows


class _Prompts:
    """Encoded prompts of many texts, without padding."""

    def __init__(self, reconstructor: WriteReconstructor, texts: Sequence[str]) -> None:
        ids, lengths = [], []
        for start in range(0, len(texts), _ENCODED_AT_ONCE):
            rows, real = reconstructor.encode(list(texts[start : start + _ENCODED_AT_ONCE]))
            ids.append(rows[real].int())
            lengths.append(real.sum(1))
        self.ids, self.lengths = torch.cat(ids), torch.cat(lengths)
        self.starts = self.lengths.cumsum(0) - self.lengths

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Ids of some rows, padded behind the text with any id, and where they are real."""
        lengths = self.lengths[rows]
        places = torch.arange(int(lengths.max()))
        real = places < lengths[:, None]
        return self.ids[(self.starts[rows][:, None] + places) * real].long(), real
