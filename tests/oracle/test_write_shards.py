"""Writes that are kept on the disk against those that are captured at once."""

import pytest
import torch
from safetensors.torch import load_file

from tests import zoo
from tl_nla.data import Document
from tl_nla.data.progress import listening
from tl_nla.data.sharing import Share, own_share, sharing
from tl_nla.errors import InputError
from tl_nla.oracle import write_shards
from tl_nla.oracle.capture import CaptureConfig, capture_writes
from tl_nla.oracle.write_shards import kept_writes, read_writes

SITES = [*(f"blocks.1.attn.head.{head}" for head in range(4)), "blocks.1.attn", "blocks.1.mlp", "blocks.2"]
CONFIG = CaptureConfig(2, skips=False)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(write_shards, "DOCUMENTS", 2)


def documents(count=5):
    texts = [" ".join(f"w{i}" for i in zoo.tokens(1, 10 + 3 * n, seed=n)[0].tolist()) for n in range(count)]
    return [Document("short", ""), *(Document(f"d/{n}", text) for n, text in enumerate(texts))]


def as_rows(writes):
    """Everything of each row, by document, position and site."""
    places = zip(writes.document.tolist(), writes.position.tolist(), writes.site.tolist(), strict=True)
    rows = zip(writes.before, writes.write, writes.labels, writes.answers, strict=True)
    return {(*place[:2], writes.sites[place[2]]): row for place, row in zip(places, rows, strict=True)}


def test_rows_are_those_of_a_capture_at_once(llama, tokenizer, tmp_path):
    config = CaptureConfig(2)
    found = as_rows(kept_writes(tmp_path, llama, tokenizer, documents(), SITES, config))
    wanted = as_rows(capture_writes(llama, tokenizer, documents(), SITES, config))
    assert found.keys() == wanted.keys()
    for key, (before, write, label, answers) in wanted.items():
        torch.testing.assert_close(found[key][:2], (before, write), atol=1e-5, rtol=1e-4)
        assert found[key][2:] == (label, answers)


def test_the_state_before_is_stored_once_for_all_writes_of_its_point(llama, tokenizer, tmp_path):
    writes = kept_writes(tmp_path, llama, tokenizer, documents(), SITES, CONFIG)
    files = [load_file(path) for path in sorted(tmp_path.glob("shard-*"))]
    assert len(files) == 3
    assert sum(len(file["write"]) for file in files) == len(writes) == 10 * len(SITES)
    # Four heads and the attention share a state, the MLP has one, the block has one.
    assert sum(len(file["state"]) for file in files) == 10 * 3


def test_a_second_run_reads_and_an_interrupted_one_goes_on(llama, tokenizer, tmp_path, monkeypatch):
    first = kept_writes(tmp_path, llama, tokenizer, documents(), SITES, CONFIG)
    (tmp_path / "shard-000001.safetensors").unlink()
    asked = []

    def counted(model, words, run, *rest):
        asked.append(len(run))
        return capture_writes(model, words, run, *rest)

    monkeypatch.setattr(write_shards, "capture_writes", counted)
    heard = []
    with listening(lambda *news: heard.append(news)):
        again = kept_writes(tmp_path, llama, tokenizer, documents(), SITES, CONFIG)
    assert asked == [2]
    assert heard == [("capturing writes", done, 5) for done in (0, 2, 4, 5)]
    assert torch.equal(first.write, again.write)
    assert (first.labels, first.answers) == (again.labels, again.answers)


def test_two_processes_capture_a_share_each_and_read_all(llama, tokenizer, tmp_path, monkeypatch):
    alone, asked = kept_writes(tmp_path / "alone", llama, tokenizer, documents(), SITES, CONFIG), []
    made, waits = write_shards.write_writes, []

    def noted(path, *rest):
        asked.append((own_share().number, path.name[-13]))
        made(path, *rest)

    monkeypatch.setattr(write_shards, "write_writes", noted)

    def other():
        waits.append(len(asked))
        if len(waits) == 2:  # the first process has captured its share; now the second does, and both read
            with sharing(Share(1, 2)):
                found.append(kept_writes(tmp_path / "both", llama, tokenizer, documents(), SITES, CONFIG))

    found = []
    with sharing(Share(0, 2, other)):
        found.append(kept_writes(tmp_path / "both", llama, tokenizer, documents(), SITES, CONFIG))
    assert asked == [(0, "0"), (0, "2"), (1, "1")]
    assert waits == [0, 2]
    for writes in found:
        assert torch.equal(writes.write, alone.write)
        assert writes.labels == alone.labels
    assert own_share() == Share(0, 1, own_share().wait)
    with pytest.raises(InputError, match="number is 2 of 2 processes"):
        Share(2, 2)


@pytest.mark.parametrize("other", [{"sites": SITES[:2]}, {"config": CaptureConfig(3, skips=False)}, {"documents": 4}])
def test_another_capture_is_refused(llama, tokenizer, tmp_path, other):
    kept_writes(tmp_path, llama, tokenizer, documents(), SITES, CONFIG)
    with pytest.raises(InputError, match="give another folder"):
        kept_writes(tmp_path, llama, tokenizer, documents(other.get("documents", 5)), other.get("sites", SITES),
                    other.get("config", CONFIG))  # fmt: skip


def test_what_cannot_be_used_is_refused(llama, tokenizer, tmp_path):
    with pytest.raises(InputError, match="no document has two tokens"):
        kept_writes(tmp_path, llama, tokenizer, documents(0), SITES, CONFIG)
    (tmp_path / "shard-000000.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no whole shard"):
        read_writes(tmp_path / "shard-000000.safetensors")
