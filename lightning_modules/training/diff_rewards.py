"""Reinforcement learning of a diff oracle: words that give the write back are made more likely."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.training.nla_training import NLATraining
from tl_nla.errors import InputError
from tl_nla.oracle import DiffOracle
from tl_nla.oracle.policy import WritePair, side_by_side, write_errors, write_of
from tl_nla.oracle.questions import EXPLAIN
from tl_nla.plugins import embedded, part


class DiffNLAReinforcement(NLATraining):
    """:class:`lightning_modules.NLATraining` for writes; :class:`DiffDataModule` serves the batches.

    Start from an oracle whose verbalizer and reconstructor were trained on labels (:class:`DiffOracleTraining`,
    :class:`DiffNLATraining`). Its verbalizer is the policy and, frozen, the reference of the KL. The reward is the
    error of the direction; the reconstructor also learns the size. Questions are not trained on: keep ``kl_weight``
    above 0, and look at ``python -m docs.studies questions`` before and after.

    Args:
        model: ``"tiny"`` for the embedded oracle, or a folder with one.
        oracle: the oracle itself instead.
        settings: of :class:`NLATraining`; prefix budgets and ``lora`` are not for oracles (wrap the
            verbalizer's model with PEFT for the latter).
    """

    needs = "writes"

    def __init__(self, model: str = "tiny", oracle: DiffOracle | None = None, **settings: Any) -> None:
        for name in ("lora", "nla"):
            if settings.get(name) is not None:
                raise InputError(f"{name} is no setting of a diff oracle's training; leave it out")
        reward = settings.get("reward")
        if reward is not None and reward.budget_from is not None:
            raise InputError(f"budget_from is {reward.budget_from}; explanations of writes are not cut, leave it out")
        known = oracle or load_oracle(model)
        super().__init__(nla=WritePair(known), **settings)
        object.__setattr__(self, "oracle", known)

    def data_width(self) -> int:
        """Size of the writes."""
        return int(self.nla.oracle.d_model)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """One step on the explanations of a batch; answers to questions are left out."""
        acts = _explained(batch)
        if len(acts):
            super().training_step({"acts": acts}, batch_idx)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out FVE of greedy explanations."""
        acts = _explained(batch)
        if len(acts):
            super().validation_step({"acts": acts}, batch_idx)

    test_step = validation_step

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[str]:
        """Greedy explanations of all writes of a batch, whatever was asked about them."""
        return super().predict_step({"acts": side_by_side(batch["before"], batch["write"])}, batch_idx)

    def read_errors(
        self, texts: list[str], acts: Float[Tensor, "n d_model"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Of the direction, and of the direction and the size."""
        return write_errors(self.nla.reconstructor, texts, write_of(acts))

    def targets(self, acts: Float[Tensor, "n d_model"]) -> Tensor:
        """The writes."""
        return write_of(acts)


def load_oracle(name: str) -> DiffOracle:
    """The embedded oracle for ``"tiny"``, or that of a folder."""
    return DiffOracle.from_pretrained(name if embedded(name) is None else part(name, "oracle"))


def _explained(batch: dict[str, Any]) -> Float[Tensor, "n both"]:
    rows = torch.tensor([row for row, asked in enumerate(batch["questions"]) if asked == EXPLAIN], dtype=torch.long)
    rows = rows.to(batch["write"].device)
    return side_by_side(batch["before"][rows], batch["write"][rows])
