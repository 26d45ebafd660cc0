"""The bar counts to the end of the training, whatever ends it."""

import io

import lightning as L
import pytest
import rich
import torch
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from torch.utils.data import DataLoader

from lightning_modules.callbacks.step_bar import StepBar
from lightning_modules.cli import CheckingCLI


class Line(L.LightningModule):
    """One number, a step a batch; ``updates`` optimiser steps a batch where it takes them itself."""

    def __init__(self, updates: int = 0):
        super().__init__()
        self.weight, self.updates = torch.nn.Parameter(torch.zeros(1)), updates
        self.automatic_optimization = not updates

    def training_step(self, batch, batch_idx):
        loss = (self.weight * batch).sum()
        for _ in range(self.updates):
            self.optimizers().step()
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("loss", self.weight.sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def shown():
    """Trains with the bar on a console of a kind, four batches an epoch, and gives the console's text."""

    def train(terminal=True, updates=0, **settings):
        file = io.StringIO()
        bar = StepBar(console_kwargs={"file": file, "force_terminal": terminal, "width": 200})
        batches = DataLoader(torch.ones(4))
        L.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
            callbacks=[bar], **settings,
        ).fit(Line(updates), batches, batches)  # fmt: skip
        return file.getvalue()

    yield train
    rich.reconfigure()


def test_steps_are_counted_over_all_epochs(shown):
    text = shown(max_steps=10)
    assert "step" in text
    assert "10/10 100%" in text
    assert "Epoch" not in text
    assert "-2" not in text


def test_steps_are_those_of_the_optimisers(shown):
    assert "12/12 100%" in shown(max_steps=12, updates=3)


@pytest.mark.parametrize("steps", [-1, 1000])
def test_where_epochs_end_the_training_batches_are_counted(shown, steps):
    text = shown(max_epochs=2, max_steps=steps)
    assert "batch" in text
    assert "8/8 100%" in text


def test_fewer_steps_than_epochs_would_take(shown):
    assert "3/3 100%" in shown(max_epochs=2, max_steps=3)


def test_a_training_without_an_end_has_no_percentage(shown):
    text = shown(max_epochs=-1, max_time={"milliseconds": 200}, limit_val_batches=0)
    assert "/--" in text
    assert "%" not in text


def test_a_file_gets_lines(shown):
    lines = [line for line in shown(terminal=False, max_steps=10).splitlines() if line.startswith("step: ")]
    assert lines[0].startswith("step: 1 of 10 (10%)")
    assert lines[-1] == "step: 10 of 10 (100%)"


COMMAND = ["fit", "--trainer.logger", "false", "--trainer.accelerator", "cpu", "--trainer.max_steps", "1"]


class Unrun(CheckingCLI):
    """Builds everything, and runs nothing."""

    def _run_subcommand(self, subcommand):
        pass


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ([], StepBar),
        (["--trainer.callbacks", "lightning.pytorch.callbacks.TQDMProgressBar"], TQDMProgressBar),
        (["--trainer.callbacks+", "lightning.pytorch.callbacks.RichProgressBar"], RichProgressBar),
        (["--trainer.callbacks+", "lightning_modules.ExactResume"], StepBar),
        (["--trainer.enable_progress_bar", "false"], type(None)),
    ],
)
def test_the_command_line_has_it_unless_another_is_named(arguments, kind):
    cli = Unrun(Line, L.LightningDataModule, args=[*COMMAND, *arguments], seed_everything_default=False)
    assert type(cli.trainer.progress_bar_callback) is kind
