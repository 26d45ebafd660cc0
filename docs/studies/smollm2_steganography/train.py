"""Reinforcement learning of SmolLM2's NLA from warm starts of different length, with several weights of the KL term."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader

from lightning_modules import NLATraining
from lightning_modules.callbacks.step_bar import StepBar
from lightning_modules.data.activations import StateExplanations, collate
from lightning_modules.data.kept_states import read_kept
from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from tl_nla.data.progress import tell
from tl_nla.nla.adapted_files import is_small, load_adapted, save_adapted
from tl_nla.nla.rollouts import RolloutConfig


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        warm: name of the warm start.
        kl_weight: of the divergence from it.
    """

    warm: str
    kl_weight: float

    @property
    def name(self) -> str:
        """A name for files and rows."""
        return f"{self.warm}, KL {self.kl_weight:g}"


@dataclass(frozen=True)
class Reinforcement:
    """What every cell has in common.

    Attributes:
        steps: of both parts.
        states: that a step explains.
        group: explanations of each.
        cap: tokens of an explanation at most.
        rate: of both parts.
        seed: of the order of states, and of sampling.
    """

    steps: int = 30
    states: int = 4
    group: int = 8
    cap: int = 32
    rate: float = 3e-4
    seed: int = 0


def cells(warm: Sequence[str], weights: Sequence[float]) -> list[Cell]:
    """The grid, weight by weight."""
    return [Cell(name, weight) for weight, name in itertools.product(weights, warm)]


def train_cells(
    pairs: Mapping[str, Path], weights: Sequence[float], states: Path, runs: Path, how: Reinforcement
) -> None:
    """Train each cell whose pair is not there yet; all cells see the same states in the same order.

    Args:
        pairs: folders of the warm-started pairs, by name.
        weights: of the KL term.
        states: folder of the states that a training kept.
        runs: folder that receives a pair a cell, and what was logged.
        how: the training.
    """
    kept = StateExplanations(read_kept(states))
    for cell in cells(list(pairs), weights):
        folder = runs / cell.name
        if is_small(folder):
            continue
        tell(f"training {cell.name}")
        L.seed_everything(how.seed)
        nla = load_adapted(str(pairs[cell.warm]))
        draws = torch.Generator().manual_seed(how.seed)
        loader = DataLoader(kept, how.states, shuffle=True, drop_last=True, collate_fn=collate, generator=draws)
        module = NLATraining(
            nla=nla, rollouts=RolloutConfig(how.group, how.cap),
            rates=RateConfig(how.rate, how.rate, warmup_steps=5),
            policy=PolicyConfig(kl_weight=cell.kl_weight, seed=how.seed),
        )  # fmt: skip
        trainer = L.Trainer(
            accelerator="cpu", precision="bf16-mixed", max_steps=how.steps, max_epochs=-1, callbacks=[StepBar()],
            logger=L.pytorch.loggers.CSVLogger(runs, "logs", cell.name), log_every_n_steps=1,
            enable_checkpointing=False, enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(module, loader)
        save_adapted(nla.eval(), folder)
