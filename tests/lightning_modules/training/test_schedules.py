from datetime import timedelta

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightning_modules.data.resumable_loader import ResumableLoader
from lightning_modules.training.schedules import OPTIMIZERS, flat_then_down, one_cycle, run_length, scheduled_optimizer
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tests import zoo
from tests.nla.test_generation import make
from tl_nla.errors import InputError

QUIET = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False,
         "enable_model_summary": False, "enable_checkpointing": False, "limit_val_batches": 0}  # fmt: skip


class Line(L.LightningModule):
    """Writes down the rate and the momentum of every step."""

    def __init__(self, kind="adamw", learning_rate=0.5):
        super().__init__()
        self.net, self.kind, self.learning_rate = torch.nn.Linear(3, 2), kind, learning_rate
        self.rates = []

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()

    def on_before_optimizer_step(self, optimizer):
        group = optimizer.param_groups[0]
        self.rates.append((group["lr"], group.get("betas", (0,))[0]))

    def configure_optimizers(self):
        steps = run_length(self.trainer)
        return scheduled_optimizer(self.named_parameters(), self.kind, self.learning_rate, 0.0, steps)


def rows(count=64):
    return ResumableLoader(torch.ones(count, 3), batch_size=1)


def trained(path=None, save=None, kind="adamw", learning_rate=0.5, **settings):
    """Rates of a run, from a checkpoint and to one."""
    module, trainer = Line(kind, learning_rate), L.Trainer(**QUIET, **settings)
    trainer.fit(module, rows(), ckpt_path=path, weights_only=True)
    if save:
        trainer.save_checkpoint(save)
    return module.rates


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 11, 20, 300])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_of_any_length_has_a_schedule(kind, steps):
    layer = torch.nn.Linear(3, 2)
    found = scheduled_optimizer(layer.named_parameters(), kind, 0.01, 0.0, steps)
    optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert all(0 <= rate <= 0.01 + 1e-12 for rate in rates)
    assert max(rates) > 0


def test_the_peak_of_a_long_run_is_early():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    schedule = one_cycle(optimizer, 0.5, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.5)
    assert rates.index(max(rates)) == 9
    assert [flat_then_down(step, 1000) for step in (0, 49, 300, 999)] == pytest.approx([0.02, 1.0, 1.0, 0.0016])


def test_unknown_optimizers_are_refused():
    with pytest.raises(InputError, match="unknown optimizer 'sgd'"):
        scheduled_optimizer([], "sgd", 0.1, 0.0, 5)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("steps", [5, 6, 8, 16, 40])
def test_a_run_goes_on_at_its_step_of_a_longer_or_shorter_schedule(kind, steps, tmp_path):
    """It used to raise "Tried to step 9 times" when the new run was longer."""
    path = tmp_path / "cut.ckpt"
    begun = trained(save=path, kind=kind, max_steps=8, callbacks=[StopAt(4)])
    assert begun == trained(kind=kind, max_steps=8)[:4]
    assert trained(path, kind=kind, max_steps=steps) == trained(kind=kind, max_steps=steps)[4:]


def test_the_rate_of_a_run_that_goes_on_is_its_own(tmp_path):
    path = tmp_path / "cut.ckpt"
    trained(save=path, max_steps=8, callbacks=[StopAt(4)])
    assert trained(path, learning_rate=0.1, max_steps=8) == trained(learning_rate=0.1, max_steps=8)[4:]


def test_a_finished_run_can_be_made_longer(tmp_path):
    path = tmp_path / "whole.ckpt"
    trained(save=path, max_epochs=1, limit_train_batches=8)
    again = trained(path, max_epochs=3, limit_train_batches=8)
    assert again == trained(max_epochs=3, limit_train_batches=8)[8:]


class Seen(L.Callback):
    """Which rows were trained on; a checkpoint after eleven."""

    def __init__(self, path=None):
        self.rows, self.path = [], path

    def on_train_batch_start(self, trainer, module, batch, number):
        self.rows.append(batch[:, 0].tolist())

    def on_train_batch_end(self, trainer, *args):
        if self.path is not None and len(self.rows) == 11:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("limits", [{"max_epochs": 3}, {"max_epochs": 3, "max_steps": 20}, {"max_steps": 24}])
def test_asking_for_the_length_does_not_lose_the_place_in_the_data(limits, tmp_path):
    """Lightning makes the loader when the length is asked for, before it knows where the checkpoint stood in it."""
    path = tmp_path / "middle.ckpt"

    def run(seen, checkpoint=None):
        loader = ResumableLoader(torch.arange(8.0)[:, None].expand(-1, 3), batch_size=1, seed=3)
        trainer = L.Trainer(**QUIET, **limits, callbacks=[seen])
        trainer.fit(Line(), loader, ckpt_path=checkpoint, weights_only=True)
        return seen.rows

    whole = run(Seen(path))
    assert run(Seen(), path) == whole[11:]


def test_states_of_earlier_versions_are_read(tmp_path):
    """They held everything that torch's schedule holds, its length included."""
    made = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], 0.5)
    old = torch.optim.lr_scheduler.OneCycleLR(made, 0.5, total_steps=8, pct_start=0.1)
    made.step()
    old.step()
    ours = one_cycle(torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], 0.5), 0.5, 16)
    ours.load_state_dict(old.state_dict())
    assert (ours.last_epoch, ours.total_steps) == (1, 16)


def test_a_schedule_stays_at_its_end():
    for kind in OPTIMIZERS:
        layer = torch.nn.Linear(3, 2)
        found = scheduled_optimizer(layer.named_parameters(), kind, 0.01, 0.0, 4)
        optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
        for _ in range(9):
            layer(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            schedule.step()
        assert 0 <= optimizer.param_groups[0]["lr"] < 1e-5


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.ones(3)


class StopAt(L.Callback):
    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop = trainer.global_step >= self.steps


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("limits", [{"max_epochs": -1}, {"max_time": timedelta(hours=1)}, {"max_epochs": 1}])
def test_without_a_limit_of_steps_the_rate_rises_and_stays(kind, limits):
    module = Line(kind)
    trainer = L.Trainer(**QUIET, **limits, callbacks=[StopAt(70)])
    trainer.fit(module, DataLoader(Endless(), batch_size=1) if limits == {"max_epochs": 1} else rows())
    assert run_length(trainer) is None
    rates = [rate for rate, _ in module.rates]
    assert rates == pytest.approx([0.5 * min(1, (step + 1) / 50) for step in range(len(rates))])
    assert len(rates) >= 64


@pytest.mark.parametrize("kind", [VerbalizerWarmStart, ReconstructorWarmStart])
def test_warm_starts_run_without_a_limit_of_steps(kind):
    batch = {"acts": torch.randn(2, zoo.D_MODEL), "texts": ["a", "b"]}
    trainer = L.Trainer(**QUIET, max_epochs=-1, callbacks=[StopAt(2)])
    served = DataLoader([batch] * 2, batch_size=None)
    trainer.fit(kind(nla=make("llama", "affine")), served, served)
    assert trainer.global_step == 2


@pytest.mark.parametrize("limits", [{"max_steps": 0}, {"limit_train_batches": 0}])
def test_a_run_without_steps_is_refused(limits):
    with pytest.raises(InputError, match=r"the run has 0 steps .*nothing would be trained"):
        L.Trainer(**QUIET, max_epochs=1, **limits).fit(Line(), rows())
