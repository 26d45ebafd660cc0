"""Training of the embedded target model on the story world."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedTokenizerBase

from docs.studies.tiny.corpus import CorpusConfig, TrainingDocument, training_batches
from docs.studies.tiny.model import TargetConfig, build_target
from lightning_modules.base import TrainingModule
from lightning_modules.training.schedules import flat_then_down
from tl_nla.metrics.norms import at_least_float32


class StoryCorpus(IterableDataset[dict[str, Tensor]]):
    """Batches of the training stream as padded tensors."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: CorpusConfig, steps: int) -> None:
        self.tokenizer, self.config, self.steps = tokenizer, config, steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for documents in training_batches(self.tokenizer, self.config, self.steps):
            yield pad_documents(documents, int(self.tokenizer.pad_token_id or 0))


def pad_documents(documents: list[TrainingDocument], pad: int) -> dict[str, Tensor]:
    """Right-padded ``ids`` and ``weights``, both ``[documents, longest]``; padding weighs nothing."""
    width = max(len(document.ids) for document in documents)
    ids = torch.full((len(documents), width), pad)
    weights = torch.zeros(len(documents), width)
    for row, document in enumerate(documents):
        ids[row, : len(document.ids)] = torch.tensor(document.ids)
        weights[row, : len(document.ids)] = torch.tensor(document.weights)
    return {"ids": ids, "weights": weights}


class TargetTraining(TrainingModule):
    """Next-token training of the target with Muon for matrices and AdamW for the rest.

    Args:
        tokenizer: the world's tokenizer.
        steps: optimiser steps; the learning rate falls to zero over the second half.
        learning_rate: of Muon; embeddings, norms and biases get a tenth of it.
        target: shape and seed of the model.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, steps: int = 1300, learning_rate: float = 0.01,
        target: TargetConfig | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.automatic_optimization = False
        self.steps, self.learning_rate = steps, learning_rate
        self.model = build_target(tokenizer, target)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """One step on the weighted next-token loss."""
        loss = weighted_next_token_loss(self.model(input_ids=batch["ids"]).logits, batch["ids"], batch["weights"])
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        schedulers: Any = self.lr_schedulers()
        for scheduler in schedulers:
            scheduler.step()
        self.log("train/loss", loss, prog_bar=True)

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        """Muon for the matrices inside the blocks, AdamW for everything else, one schedule."""
        named = list(self.model.named_parameters())
        matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        rest = [p for name, p in named if not (p.ndim == 2 and "embed" not in name)]
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=self.learning_rate, weight_decay=0.02),
            torch.optim.AdamW(rest, lr=self.learning_rate / 10, weight_decay=0.0, betas=(0.9, 0.98)),
        ]
        return optimizers, [torch.optim.lr_scheduler.LambdaLR(o, self._rate) for o in optimizers]

    def _rate(self, step: int) -> float:
        return flat_then_down(step, self.steps, down=0.5)


def weighted_next_token_loss(logits: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean next-token cross-entropy in nats, each target weighted.

    Args:
        logits: ``[batch, pos, vocab]``.
        ids: ``[batch, pos]``.
        weights: ``[batch, pos]``; the weight of each id as a target.
    """
    losses = cross_entropy(at_least_float32(logits[:, :-1]).flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    targets = weights[:, 1:].flatten()
    return (losses * targets).sum() / targets.sum()


def train_target(
    tokenizer: PreTrainedTokenizerBase, steps: int = 1300, corpus: CorpusConfig | None = None,
    target: TargetConfig | None = None, **trainer: Any,
) -> Any:  # fmt: skip
    """Train the embedded target; about 20 minutes on two cores.

    Args:
        tokenizer: the world's tokenizer.
        steps: optimiser steps.
        corpus: the training stream.
        target: shape and seed.
        trainer: further arguments of ``lightning.Trainer``.

    Returns:
        The trained Hugging Face model in evaluation mode.
    """
    module = TargetTraining(tokenizer, steps, target=target)
    loader = DataLoader(StoryCorpus(tokenizer, corpus or CorpusConfig(), steps), batch_size=None)
    settings = {"accelerator": "cpu", "devices": 1, "max_steps": 2 * steps, "max_epochs": 1, "logger": False,
                "enable_checkpointing": False, "enable_model_summary": False}  # fmt: skip
    L.Trainer(**{**settings, **trainer}).fit(module, loader)
    return module.model.eval()
