"""A training whose reports are watched, in one process or in two."""

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.callbacks.reports import ContributionReportCallback, ShownConfig
from tests import zoo
from tests.lightning_modules.forks import as_processes, wait

PROMPTS = {"first": "w5 w9 w6 w7", "second": "w8 w8 w4"}


class Sayer(nn.Module):
    """Stands in for an oracle in training: its words tell its weight."""

    strength = None

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 1, bias=False)
        nn.init.ones_(self.line.weight)

    def explain(self, write, before):
        return [f"weight {float(self.line.weight.detach().sum()):.4f}"] * len(write)


class Training(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.oracle = Sayer()

    def training_step(self, batch, batch_idx):
        return self.oracle.line(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05)

    def train_dataloader(self):
        rows = torch.arange(16.0).view(8, 2)[self.trainer.global_rank :: self.trainer.world_size] / 16
        # Two rows a process: the mean over both processes is that of one process with four rows.
        return DataLoader(TensorDataset(rows), batch_size=4 // self.trainer.world_size)


def train(folder, callback, **settings):
    trainer = L.Trainer(
        accelerator="cpu", max_steps=2, logger=TensorBoardLogger(folder, name="", version="run"), max_epochs=1,
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
        use_distributed_sampler=False, **{"devices": 1, **settings},
    )  # fmt: skip
    module = Training()
    trainer.fit(module)
    return trainer, module


def make_callback(**settings):
    model = zoo.bridge("llama")
    given = {"every_n_steps": 1, "model": model, "tokenizer": zoo.tokenizer(), "shown": ShownConfig(images=False)}
    return ContributionReportCallback(PROMPTS, **{**given, **settings})


def two(folder: Path) -> bool:
    """Train in two processes; the first writes its report, the other has none. Whether both ended so."""
    torch.set_num_threads(1)

    def one_of_two() -> None:
        callback = make_callback()
        trainer, _ = train(folder, None, callbacks=[callback], devices=2, strategy="ddp")
        if trainer.is_global_zero:
            callback.reports["first"].to_json(folder / "first.json")
        elif callback.reports:
            raise AssertionError("the second process wrote a report too")

    return wait(as_processes(2, one_of_two))
