"""Killed runs end in the weights of the run that was left alone; damaged and unwritable checkpoints lose nothing."""

import errno
import shutil
import subprocess
from pathlib import Path

import lightning as L
import pytest
import torch

from lightning_modules.callbacks import checkpoint_io
from lightning_modules.callbacks.checkpoint_io import AtomicCheckpointIO, damage
from lightning_modules.data.resumable_loader import ResumableLoader
from tests.lightning_modules import killable
from tests.lightning_modules.forks import in_a_clean_process
from tl_nla.errors import InputError


def same(module, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in module.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "workers"), [(5, 0), (5, 1)])
def test_kills(kills, workers, tmp_path):
    found = in_a_clean_process(killable.main, tmp_path, kills, workers)
    assert found["kills"] >= kills
    assert all(found["equal"])


class SaveAt(L.Callback):
    """A checkpoint after one batch, wherever the accumulation stands."""

    def __init__(self, batch, path):
        self.batch, self.path, self.seen = batch, path, 0

    def on_train_batch_end(self, trainer, *args):
        self.seen += 1
        if self.seen == self.batch:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("batch", [1, 8, 19, 20, 38])
def test_resume_inside_an_accumulation_and_at_the_edges_of_epochs(batch, tmp_path):
    path = tmp_path / "middle.ckpt"
    whole = killable.train(tmp_path / "whole", ckpt_path=None, callbacks=[SaveAt(batch, path)])
    assert same(whole, killable.train(tmp_path / "again", ckpt_path=path))


@pytest.mark.parametrize("batches", [(19, 19), (19, 19, 6), (12, 7, 19), (19, 12, 7), (38, 3)])
def test_a_run_may_be_continued_at_the_edge_of_every_epoch(batches, tmp_path):
    """Each number is how many batches one run gets."""
    whole, path = killable.train(tmp_path / "whole", ckpt_path=None), None
    for number, batch in enumerate(batches):
        saving = SaveAt(batch, tmp_path / f"{number}.ckpt")
        killable.train(tmp_path / f"run{number}", ckpt_path=path, callbacks=[saving])
        path = saving.path
    assert same(whole, killable.train(tmp_path / "again", ckpt_path=path))


@pytest.mark.parametrize("kind", killable.DIFF)
def test_trainings_of_diff_oracles_resume_inside_an_accumulation(kind, tmp_path):
    path = tmp_path / "middle.ckpt"
    whole = killable.train(tmp_path / "whole", ckpt_path=None, kind=kind, callbacks=[SaveAt(11, path)])
    assert same(whole, killable.train(tmp_path / "again", ckpt_path=path, kind=kind))


def test_the_comparison_can_fail(tmp_path, monkeypatch):
    path = tmp_path / "middle.ckpt"
    whole = killable.train(tmp_path / "whole", ckpt_path=None, callbacks=[SaveAt(8, path)])
    monkeypatch.setattr(ResumableLoader, "load_state_dict", lambda self, state: None)
    assert not same(whole, killable.train(tmp_path / "again", ckpt_path=path))


@pytest.fixture
def saved(tmp_path):
    killable.train(tmp_path, ckpt_path=None)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "before.ckpt")
    return tmp_path


@pytest.mark.parametrize("kind", ["truncated", "flipped", "empty", "text"])
def test_damaged_checkpoints_are_refused_and_the_one_before_is_named(kind, saved):
    file = saved / "last.ckpt"
    content = bytearray(file.read_bytes())
    place = content.find(torch.load(file, weights_only=True)["state_dict"]["net.2.weight"].numpy().tobytes())
    assert place > 0
    content[place] ^= 1
    file.write_bytes(
        {"truncated": content[: len(content) // 2], "flipped": content, "empty": b"", "text": b"weights"}[kind]
    )
    assert damage(file)
    with pytest.raises(InputError, match=r"last\.ckpt' is damaged .*the newest whole one is '.*\.ckpt'") as refused:
        killable.train(saved)
    whole = str(refused.value).split("newest whole one is '")[1].rstrip("'")
    killable.train(saved / "again", ckpt_path=whole)


def test_a_full_disk_loses_nothing(saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.glob("*.ckpt")}

    def full(*args, **settings):
        args[1].write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_io.torch, "save", full)
    with pytest.raises(InputError, match=r"No space left on device.*untouched"):
        AtomicCheckpointIO().save_checkpoint({}, saved / "last.ckpt")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:  # noqa: S603
        pytest.skip("mounting a small disk needs the rights of root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607


def test_a_small_disk_that_fills_up_loses_nothing(small_disk):
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"a": torch.ones(3)}, small_disk / "last.ckpt")
    before = (small_disk / "last.ckpt").read_bytes()
    with pytest.raises(InputError, match="cannot write checkpoint"):
        writer.save_checkpoint({"a": torch.ones(100_000)}, small_disk / "last.ckpt")
    assert [path.name for path in small_disk.iterdir()] == ["last.ckpt"]
    assert (small_disk / "last.ckpt").read_bytes() == before
    writer.save_checkpoint({"a": torch.zeros(3)}, small_disk / "last.ckpt")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_truly_full_device_says_so(tmp_path, monkeypatch):
    target = tmp_path / "x.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, target)
    monkeypatch.setattr(Path, "with_name", lambda self, name: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(InputError, match="cannot write checkpoint"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, target)
    assert damage(target) is None


def test_checkpoints_of_other_runs_are_refused(saved):
    with pytest.raises(InputError, match="rows 38, this run has 37"):
        ResumableLoader(killable.rows()[:37], 2, seed=5).load_state_dict({"batches": 1, "rows": 38, "batch_size": 2})
    checkpoint = torch.load(saved / "last.ckpt", weights_only=True)
    del checkpoint["exact_resume"]
    AtomicCheckpointIO().save_checkpoint(checkpoint, saved / "plain.ckpt")
    with pytest.raises(InputError, match="without ExactResume"):
        killable.train(saved / "again", ckpt_path=saved / "plain.ckpt")


def test_the_loader_goes_on_where_it_was_and_draws_nothing_from_the_global_generator():
    rows = list(range(23))
    loader = ResumableLoader(rows, 4, seed=2)
    before = torch.get_rng_state()
    batches = [batch.tolist() for batch in loader]
    assert torch.equal(before, torch.get_rng_state())
    assert sorted(row for batch in batches for row in batch) == rows
    iterator = iter(loader)
    given = [next(iterator).tolist() for _ in range(2)]
    other = ResumableLoader(rows, 4, seed=2)
    other.load_state_dict(loader.state_dict())
    assert given + [batch.tolist() for batch in other] == batches
    assert [batch.tolist() for batch in other] == batches
    loader.sampler.set_epoch(1)
    assert [batch.tolist() for batch in loader] != batches
