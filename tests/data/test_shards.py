import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.data import shards
from tl_nla.data.shards import (
    Shard,
    Texts,
    begin_capture,
    finish_capture,
    is_whole,
    read_index,
    read_mean,
    read_shard,
    shard_path,
    write_shard,
)
from tl_nla.errors import InputError
from tl_nla.metrics import normalise


def make(rows, train, seed=0, dtype=torch.float32):
    acts = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)).to(dtype)
    texts = [f"text {row} of {seed} ü" for row in range(rows)]
    numbers = torch.arange(rows)
    return Shard(acts, Texts.pack(texts), Texts.pack(texts[::-1]), numbers, numbers + 1, train)


@given(st.lists(st.text(alphabet=st.characters(codec=None), max_size=20), max_size=6))
def test_any_texts_come_back(texts):
    packed = Texts.pack(texts)
    assert [packed[row] for row in range(len(packed))] == texts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shards_come_back(dtype, tmp_path):
    written = make(5, 3, dtype=dtype)
    found = read_shard(write_shard(tmp_path, 7, written))
    assert torch.equal(found.acts, written.acts)
    assert found.acts.dtype == dtype
    assert [found.contexts[row] for row in range(5)] == [written.contexts[row] for row in range(5)]
    assert (found.train, len(found)) == (3, 5)
    assert torch.equal(found.position, written.position)


def test_the_same_rows_are_the_same_bytes(tmp_path):
    first = write_shard(tmp_path, 0, make(5, 3)).read_bytes()
    assert all(write_shard(tmp_path, 0, make(5, 3)).read_bytes() == first for _ in range(5))


def test_the_index_counts_and_the_mean_is_that_of_training_rows(tmp_path):
    begin_capture(tmp_path, {"site": "a"})
    parts = [make(5, 3), make(0, 0), make(4, 4, seed=1)]
    for number, part in enumerate(parts):
        write_shard(tmp_path, number, part)
    with pytest.raises(InputError, match=r"not finished: run the same capture again \(3 shards"):
        read_index(tmp_path)
    index = finish_capture(tmp_path, 3)
    assert index == read_index(tmp_path)
    assert (index["rows"], index["train"], index["d_model"]) == (9, 7, 6)
    training = torch.cat([part.acts[: part.train] for part in parts])
    torch.testing.assert_close(read_mean(tmp_path), normalise(training).mean(0))


def test_missing_and_damaged_shards_are_refused(tmp_path):
    write_shard(tmp_path, 0, make(5, 3))
    with pytest.raises(InputError, match=r"shard-000001.safetensors is no whole shard"):
        finish_capture(tmp_path, 2)
    path = shard_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:-3])
    assert not is_whole(path)
    with pytest.raises(InputError, match="delete it and run the capture again"):
        read_shard(path)
    with pytest.raises(InputError, match="is no capture"):
        read_index(tmp_path / "elsewhere")


@pytest.mark.parametrize("train", [0, 5])
def test_both_sides_of_the_split_need_rows(train, tmp_path):
    write_shard(tmp_path, 0, make(5, train))
    with pytest.raises(InputError, match=f"{train} rows to train on and {5 - train} held out"):
        finish_capture(tmp_path, 1)


def test_a_folder_of_another_capture_is_refused(tmp_path):
    begin_capture(tmp_path, {"site": "a", "seed": 0})
    begin_capture(tmp_path, {"site": "a", "seed": 0})
    with pytest.raises(InputError, match="with seed 0, this one has 1"):
        begin_capture(tmp_path, {"site": "a", "seed": 1})


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = write_shard(tmp_path, 0, make(5, 3))
    before = path.read_bytes()

    def full(tensors, part, about):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "save_file", full)
    with pytest.raises(InputError, match=r"No space left on device.*untouched"):
        write_shard(tmp_path, 0, make(5, 2))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_states_too_large_for_their_type_are_not_written(tmp_path):
    states = torch.full((3, 8), 7e4)  # an ordinary size in Gemma, above the largest float16
    texts = [Texts.pack(["a"] * 3) for _ in range(2)]
    with pytest.raises(InputError, match=r"3 of 3 states hold NaN or infinite values in torch\.float16"):
        write_shard(tmp_path, 0, Shard(states.half(), *texts, torch.arange(3), torch.arange(3), 2))
    assert not list(tmp_path.iterdir())
    write_shard(tmp_path, 0, Shard(states.bfloat16(), *texts, torch.arange(3), torch.arange(3), 2))
