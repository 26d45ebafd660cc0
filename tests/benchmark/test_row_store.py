import pytest
import torch

from tl_nla.benchmark.row_store import read_rows, write_rows
from tl_nla.errors import InputError


def test_rows_come_back_as_they_were(tmp_path):
    path = tmp_path / "new" / "rows.safetensors"
    rows = {"0/errors/gold": torch.arange(6.0).view(2, 3).T, "0/document": torch.tensor([1, 2], dtype=torch.int16)}
    write_rows(path, rows, {"steps": "4"})
    found, about = read_rows(path)
    assert about == {"steps": "4"}
    assert found.keys() == rows.keys()
    for name, value in rows.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype
    assert [file.name for file in path.parent.iterdir()] == ["rows.safetensors"]
    write_rows(path, {"other": torch.zeros(1)})
    assert read_rows(path) == ({"other": torch.zeros(1)}, {})


def test_a_file_that_is_not_there_or_damaged(tmp_path):
    path = tmp_path / "rows.safetensors"
    assert read_rows(path) == ({}, {})
    with pytest.raises(InputError, match=r"no stored results at .*; run it"):
        read_rows(path, "run it")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="is damaged"):
        read_rows(path)


def test_what_cannot_be_stored_leaves_the_old_rows(tmp_path):
    path = tmp_path / "rows.safetensors"
    write_rows(path, {"a": torch.ones(2)})
    tied = torch.zeros(2)
    with pytest.raises(RuntimeError, match="share memory"):
        write_rows(path, {"a": tied, "b": tied})
    assert torch.equal(read_rows(path)[0]["a"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == ["rows.safetensors"]
