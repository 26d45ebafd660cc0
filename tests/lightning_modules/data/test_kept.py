"""Data modules whose capture is kept between runs."""

import gc
import weakref

import pytest
import torch

from lightning_modules import ActivationDataModule, DiffDataModule
from lightning_modules.data import kept_states, streamed_writes
from lightning_modules.data.captured import CapturedDataModule
from lightning_modules.training import diff
from tests import zoo
from tests.lightning_modules.grouping import made
from tl_nla.data import Document
from tl_nla.data.progress import listening
from tl_nla.errors import InputError
from tl_nla.oracle import write_shards

DOCUMENTS = [Document(f"d/{n}", " ".join(f"w{i}" for i in zoo.tokens(1, 12 + n % 5, seed=n)[0].tolist()))
             for n in range(24)]  # fmt: skip


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(kept_states, "DOCUMENTS", 10)
    monkeypatch.setattr(write_shards, "DOCUMENTS", 10)


@pytest.fixture
def states(llama, tokenizer):
    def make(**settings):
        chosen = {"positions_per_document": 2, "batch_size": 4, "heldout": 0.3, **settings}
        return made(ActivationDataModule, llama, tokenizer, "blocks.1.hook_resid_post", source=DOCUMENTS, **chosen)

    return make


def test_kept_states_are_those_of_a_capture_at_once(states, tmp_path):
    once, kept = states(), states(cache_dir=str(tmp_path))
    once.setup()
    kept.setup()
    for name in ("train_states", "heldout_states"):
        ours, theirs = getattr(kept, name), getattr(once, name)
        assert torch.equal(ours.position, theirs.position)
        assert torch.equal(ours.document, theirs.document)
        assert (ours.explanations, ours.contexts) == (theirs.explanations, theirs.contexts)
        torch.testing.assert_close(ours.acts, theirs.acts, atol=1e-5, rtol=1e-4)
    served = CapturedDataModule(str(tmp_path), batch_size=4)
    torch.testing.assert_close(served.mean, kept.mean)
    assert len(served.val_dataloader().dataset) == len(kept.heldout_states)


def test_the_next_run_reads_without_the_model(states, tmp_path, monkeypatch):
    first = states(cache_dir=str(tmp_path))
    first.setup()
    monkeypatch.setattr(kept_states, "explain_states", None)
    again, heard = states(cache_dir=str(tmp_path)), []
    with listening(lambda *news: heard.append(news)):
        again.setup()
    assert torch.equal(again.train_states.acts, first.train_states.acts)
    assert heard == [("capturing states", done, 24) for done in (0, 10, 20, 24)]


def test_another_capture_in_the_folder_is_refused(states, tmp_path):
    states(cache_dir=str(tmp_path)).setup()
    for other in ({"seed": 1}, {"positions_per_document": 3}, {"heldout": 0.4}, {"prepend_bos": False}):
        with pytest.raises(InputError, match="give another folder"):
            states(cache_dir=str(tmp_path), **other).setup()
    with pytest.raises(InputError):
        states(cache_dir=str(next(tmp_path.glob("shard*"))))


@pytest.fixture
def writes(llama, tokenizer):
    def make(**settings):
        chosen = {"source": DOCUMENTS, "heldout": 0.3, "positions_per_document": 2, "batch_size": 4, "skips": False}
        sites = ["blocks.1.mlp", "blocks.1.attn.head.0"]
        return made(DiffDataModule, llama, tokenizer, sites, **{**chosen, **settings})

    return make


def test_kept_writes(writes, tmp_path, monkeypatch):
    first = writes(cache_dir=str(tmp_path))
    first.setup()
    monkeypatch.setattr(write_shards, "capture_writes", None)
    again = writes(cache_dir=str(tmp_path))
    again.setup()
    assert torch.equal(again.train_writes.write, first.train_writes.write)
    assert again.heldout_writes.labels == first.heldout_writes.labels
    assert again.train_writes.labels[0].strength is not None
    batches = [next(iter(module.train_dataloader())) for module in (first, again)]
    assert batches[0]["texts"] == batches[1]["texts"]


def rows_of(loader):
    return sorted((text, *write.tolist()) for batch in loader for text, write in
                  zip(batch["texts"], batch["write"], strict=True))  # fmt: skip


def test_writes_are_served_from_the_disk(writes, tmp_path, monkeypatch):
    """The rows of a capture in memory; each shard is read once a pass, and no more than the window are held."""
    monkeypatch.setattr(write_shards, "DOCUMENTS", 3)
    plain = {"questions": 0, "swap_share": 0.0, "batch_size": 1, "cache_dir": str(tmp_path)}
    whole, streamed = writes(**plain), writes(**plain, window=2)
    whole.setup()
    streamed.setup()
    held, read = [], streamed_writes.read_writes

    def counted(path):
        found = read(path)
        held.append((path, weakref.ref(found.write)))
        gc.collect()
        assert sum(own() is not None for _, own in held) <= 2
        return found

    monkeypatch.setattr(streamed_writes, "read_writes", counted)
    for name in ("train_dataloader", "val_dataloader"):
        held.clear()
        served = rows_of(getattr(streamed, name)())
        assert served == rows_of(getattr(whole, name)())
        assert len({path for path, _ in held}) == len(held) > 2
    torch.testing.assert_close(streamed.mean, whole.mean)


def test_magnitudes_of_writes_on_the_disk_come_from_a_sample(writes, tmp_path, monkeypatch):
    monkeypatch.setattr(write_shards, "DOCUMENTS", 3)
    monkeypatch.setattr(diff, "SAMPLED", 12)
    data, whole = (writes(cache_dir=str(tmp_path), **more) for more in ({"window": 1}, {}))
    data.setup()
    whole.setup()
    every = whole.train_writes.write
    step = -(-len(every) // 12)
    assert torch.equal(data.train_writes.write, every[::step])


def test_a_window_needs_writes_that_are_kept(writes, states):
    with pytest.raises(InputError, match="cache_dir"):
        writes(window=2)
    with pytest.raises(InputError, match="CapturedDataModule"):
        states(window=2)


@pytest.mark.parametrize("module", [ActivationDataModule, DiffDataModule])
def test_precision_and_device_of_a_model_by_name(module, tmp_path):
    zoo.save_target(tmp_path / "model")
    data = made(module, str(tmp_path / "model"), source=DOCUMENTS, dtype="bfloat16", device="cpu")
    model, _ = data.load_target()
    assert next(model.parameters()).dtype == torch.bfloat16
    for wrong in ({"dtype": "int3"}, {"device": "gpu7"}, {"device": "cpu", "device_map": "auto"}):
        with pytest.raises(InputError):
            made(module, str(tmp_path / "model"), source=DOCUMENTS, **wrong)
