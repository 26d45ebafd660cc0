"""Rows from the disk: an order that is shared and continued, few shards in memory, trainings that use them."""

import weakref

import lightning as L
import pytest
import torch

from lightning_modules.data.captured import CapturedDataModule, ShardedRows, ShardSampler
from lightning_modules.data.resumable_loader import ResumableLoader
from lightning_modules.training.nla_training import NLATraining
from lightning_modules.training.policy_config import PolicyConfig
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tests.lightning_modules.training.test_nla_training import ROLLOUTS, FixedBackend
from tests.nla.test_generation import make
from tl_nla.data.shards import Shard, Texts, finish_capture, read_shard, write_shard
from tl_nla.errors import InputError

SIZES = [(7, 5), (0, 0), (9, 9), (4, 0), (8, 6), (6, 5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captured")
    for number, (rows, train) in enumerate(SIZES):
        acts = torch.randn(rows, 32, generator=torch.Generator().manual_seed(number))
        texts = [f"{number}-{row}" for row in range(rows)]
        packed, counted = (Texts.pack(texts), Texts.pack(texts)), (torch.arange(rows), torch.arange(rows))
        write_shard(folder, number, Shard(acts, *packed, *counted, train))
    finish_capture(folder, len(SIZES))
    return folder


def texts_of(loader):
    return [text for batch in loader for text in batch["texts"]]


def test_every_row_is_served_once_with_its_own_text(folder):
    train = ShardedRows(folder, "train", "explanations")
    held = ShardedRows(folder, "heldout", "explanations")
    assert (len(train), len(held)) == (25, 9)
    assert [train[row][1] for row in range(25)] == [
        f"{n}-{r}" for n, (_, size) in enumerate(SIZES) for r in range(size)
    ]
    assert [held[row][1] for row in range(9)] == [
        f"{n}-{r}" for n, (all_, t) in enumerate(SIZES) for r in range(t, all_)
    ]
    acts = torch.randn(9, 32, generator=torch.Generator().manual_seed(2))
    assert torch.equal(train[5][0], acts[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_epochs_are_whole_and_differ_and_go_on_anywhere(folder, workers):
    def loader():
        return CapturedDataModule(str(folder), 4, seed=2, window=2, num_workers=workers).train_dataloader()

    whole = loader()
    batches = [batch["texts"] for batch in whole]
    assert len(batches) == 6
    assert len({text for batch in batches for text in batch}) == 24
    for start in (0, 1, 4, 5):
        first, other = loader(), loader()
        iterator = iter(first)
        given = [next(iterator)["texts"] for _ in range(start)]
        other.load_state_dict(first.state_dict())
        assert given + [batch["texts"] for batch in other] == batches
    whole.sampler.set_epoch(1)
    assert [batch["texts"] for batch in whole] != batches


def test_processes_share_one_order(folder, monkeypatch):
    rows = ShardedRows(folder, "train", "explanations")
    whole = list(ShardSampler(rows, 3, 2))
    monkeypatch.setattr("lightning_modules.data.resumable_loader.world_size", lambda: 2)
    parts = []
    for number in range(2):
        monkeypatch.setattr("lightning_modules.data.resumable_loader.rank", lambda number=number: number)
        parts.append(ShardSampler(rows, 3, 2))
    first, second = (list(part) for part in parts)
    assert [row for pair in zip(first, second, strict=True) for row in pair] == whole[:24]
    parts[1].skip = 5
    assert list(parts[1]) == second[5:]


def test_few_shards_are_in_memory(folder, monkeypatch):
    loader = CapturedDataModule(str(folder), 4, window=2).train_dataloader()
    read, shards, alive = [], [], []

    def watched(path):
        read.append(path)
        shard = read_shard(path)
        shards.append(weakref.ref(shard))
        alive.append(sum(one() is not None for one in shards))
        return shard

    monkeypatch.setattr("lightning_modules.data.captured.read_shard", watched)
    texts_of(loader)
    assert max(alive) == 2
    assert len(read) == len(set(read)) > 2, "a pass reads every file once"


def test_a_state_of_another_order_is_refused(folder):
    state = CapturedDataModule(str(folder), 4, window=2).train_dataloader().state_dict()
    with pytest.raises(InputError, match="window 2, this run has 3"):
        CapturedDataModule(str(folder), 4, window=3).train_dataloader().load_state_dict(state)
    state["processes"] = 2
    with pytest.raises(InputError, match="processes 2, this run has 1"):
        CapturedDataModule(str(folder), 4, window=2).train_dataloader().load_state_dict(state)
    assert isinstance(CapturedDataModule(str(folder), 4).train_dataloader(), ResumableLoader)


def modules():
    return [VerbalizerWarmStart(nla=make("llama")), ReconstructorWarmStart(nla=make("llama")),
            NLATraining(nla=make("llama"), rollouts=ROLLOUTS, policy=PolicyConfig(backend=FixedBackend()))]  # fmt: skip


def test_trainings_use_it(folder, tmp_path):
    for module in modules():
        trainer = L.Trainer(
            accelerator="cpu", devices=1, max_steps=2, enable_progress_bar=False, enable_model_summary=False,
            logger=False, enable_checkpointing=False, default_root_dir=tmp_path, num_sanity_val_steps=0,
        )  # fmt: skip
        data = CapturedDataModule(str(folder), 8)
        trainer.fit(module, datamodule=data)
        assert trainer.global_step == 2
        if not isinstance(module, VerbalizerWarmStart):
            assert torch.equal(module.fve.mean.float(), data.mean)


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(InputError, match="window is 0"):
        CapturedDataModule("x", window=0)
    with pytest.raises(InputError, match="is no capture"):
        CapturedDataModule(str(tmp_path)).train_dataloader()
