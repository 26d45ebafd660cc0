"""A study's run stops by processor time, writes its curve, and goes on from its checkpoint."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_modules.studies import StudyConfig, reinforce
from tests import zoo
from tests.nla.test_generation import make
from tl_nla.evaluation.training_rows import CURVE


class States(L.LightningDataModule):
    batch_size, seed = 64, 0
    mean = torch.zeros(zoo.D_MODEL)

    def train_dataloader(self):
        acts = torch.randn(4, zoo.D_MODEL, generator=torch.Generator().manual_seed(1))
        return DataLoader([{"acts": act} for act in acts], batch_size=self.batch_size)

    val_dataloader = train_dataloader


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_a_run_stops_and_goes_on(tmp_path):
    data = States()
    config = StudyConfig(core_minutes=1e-6, batch=2, group=2, cap=6)
    curve = reinforce(make("llama"), data, config, tmp_path, 0)
    assert curve.shape == (1, len(CURVE))
    assert data.batch_size == 64, "the data module is left as it was"
    assert (tmp_path / "last.ckpt").is_file()
    assert list((tmp_path / "tensorboard").rglob("events*"))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 1
    again = reinforce(make("llama"), data, config, tmp_path, 0)
    assert len(again) == 2
    assert torch.equal(again[0], curve[0])
    assert again[:, 0].tolist() == [1, 2]
    assert again[1, 1] > again[0, 1]
