"""A study's run stops by processor time, writes its curve, and goes on from its checkpoint."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from docs.studies.training import train as studies
from docs.studies.training.score import CURVE
from docs.studies.training.train import StudyConfig, reinforce
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.training.nla_training import load_pair
from tests import zoo
from tests.lightning_modules.grouping import made
from tests.nla.test_generation import make
from tl_nla.metrics import squared_deviations, squared_errors
from tl_nla.storyworld.documents import world_documents
from tl_nla.storyworld.explained import explain_states
from tl_nla.storyworld.tiny import load_tiny


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


def with_states(tiny):
    found = explain_states(tiny.model, tiny.tokenizer, world_documents(4, 0), "blocks.2.hook_resid_post", 3, 5)
    data = made(ActivationDataModule, None, None, "blocks.2.hook_resid_post", documents=4, positions_per_document=3)
    data.train_states = data.heldout_states = found
    return data


def test_a_start_that_is_too_good_is_made_again_a_ninth_shorter(tmp_path, monkeypatch):
    limit = StudyConfig().start.fve
    shipped, lengths, found = load_pair("tiny"), [], iter([0.7, limit + 0.01, limit])

    def warm_start(_target, _data, steps, *_rest, **_settings):
        lengths.append((steps.reconstructor_steps, steps.verbalizer_steps))
        return shipped

    monkeypatch.setattr(studies, "warm_start_nla", warm_start)
    monkeypatch.setattr(studies, "validation_fve", lambda *_: next(found))
    data = with_states(load_tiny())
    start = studies.short_warm_start(data, StudyConfig(), tmp_path / "start", 0)
    assert lengths == [(135, 200), (120, 178), (105, 156)]
    assert torch.allclose(start.mean, data.mean, atol=1e-3)
    studies.short_warm_start(data, StudyConfig(), tmp_path / "start", 0)
    assert len(lengths) == 3, "a start that was made is read"


def test_validation_fve_is_that_of_the_validation_stories_greedy_words():
    tiny = load_tiny()
    data = with_states(tiny)
    acts = data.heldout_states.acts
    errors = squared_errors(tiny.nla.reconstruct(tiny.nla.verbalize(acts, max_new_tokens=110)), acts)
    wanted = 1 - float(errors.sum() / squared_deviations(acts, data.mean).sum())
    assert 0.5 < wanted < 1
    assert studies.validation_fve(tiny.nla, data) == pytest.approx(wanted, abs=1e-5)
