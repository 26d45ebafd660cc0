import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.callbacks.reports import ContributionReportCallback
from tests import zoo
from tl_nla.errors import InputError
from tl_nla.reports import ContributionReport

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
    given = {"every_n_steps": 1, "model": model, "tokenizer": zoo.tokenizer(), "images": False}
    return ContributionReportCallback(PROMPTS, **{**given, **settings})


def assert_same(one, other):
    """The same words, and the same numbers up to rounding."""
    assert len(one.cells) == len(other.cells)
    for mine, theirs in zip(one.rows(), other.rows(), strict=True):
        for name, value in mine.items():
            if isinstance(value, float):
                assert value == pytest.approx(theirs[name], abs=1e-5), name
            elif name != "sources":
                assert value == theirs[name], name


def test_reports_follow_the_training(tmp_path):
    callback = make_callback()
    _, module = train(tmp_path, callback=None, callbacks=[callback])
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"tensors": 0})
    events.Reload()
    for name in PROMPTS:
        steps = [event.step for event in events.Tensors(f"contributions/{name}")]
        assert steps == [1, 2]
        tables = events.Tensors(f"contributions/{name}/table/0/text_summary")
        said = [event.tensor_proto.string_val[0] for event in tables]
        assert len(set(said)) == 2
    weight = float(module.oracle.line.weight.detach().sum())
    assert f"weight {weight:.4f}" in callback.reports["first"].cells[2].explanation
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    assert set(module.state_dict()) == {"oracle.line.weight"}
    assert len(list((tmp_path / "run").glob("00002/*/metadata.tsv"))) == len(PROMPTS)


def test_reports_come_every_few_steps_and_at_the_end(tmp_path):
    train(tmp_path, None, callbacks=[make_callback(every_n_steps=5, oracle=None)])
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert [event.step for event in events.Tensors("contributions/second")] == [2]


@pytest.mark.parametrize(
    ("prompts", "steps", "message"),
    [([], 5, "at least one text"), ("one text", 5, "a list of texts"), (["a"], 0, "at least 1 step")],
)
def test_bad_settings_are_refused(prompts, steps, message):
    with pytest.raises(InputError, match=message):
        ContributionReportCallback(prompts, steps)


def test_a_trainer_without_tensorboard_is_refused():
    trainer = L.Trainer(accelerator="cpu", devices=1, max_steps=1, logger=False, callbacks=[make_callback()],
                        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    with pytest.raises(InputError, match="TensorBoardLogger"):
        trainer.fit(Training())


_SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import warnings
warnings.simplefilter("ignore")
from tests.lightning_modules.callbacks import test_reports as tests
if __name__ == "__main__":
    callback = tests.make_callback()
    trainer, _ = tests.train({folder!r}, None, callbacks=[callback], devices=2, strategy="ddp")
    if trainer.is_global_zero:
        callback.reports["first"].to_json({folder!r} + "/first.json")
    else:
        assert not callback.reports
"""


@pytest.mark.slow
def test_two_processes_write_the_same_report_as_one(tmp_path):
    import json

    script = tmp_path / "two.py"
    script.write_text(_SCRIPT.format(root=str(Path(__file__).parents[3]), folder=str(tmp_path)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=1500, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr[-2000:]
    two = ContributionReport.from_dict(json.loads((tmp_path / "first.json").read_text()))
    callback = make_callback()
    train(tmp_path / "one", None, callbacks=[callback])
    assert_same(two, callback.reports["first"])
    assert len(list((tmp_path / "run").glob("events.*"))) == 1
