"""The embedded default says in one line what is missing."""

import shutil

import pytest

import tl_nla
from tl_nla.errors import InputError
from tl_nla.model import targets
from tl_nla.storyworld import plugin, tiny


def test_missing_target(monkeypatch, tmp_path):
    monkeypatch.setattr(plugin, "WEIGHTS", tmp_path)
    with pytest.raises(InputError, match=r"embedded weights are missing from .*; install tl-nla again") as caught:
        tl_nla.load_tiny()
    assert "\n" not in str(caught.value)


def test_damaged_target(monkeypatch, tmp_path):
    shutil.copytree(targets.model_folder(targets.TINY), tmp_path / "target")
    path = tmp_path / "target" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    monkeypatch.setattr(plugin, "WEIGHTS", tmp_path)
    with pytest.raises(InputError, match="is not a whole safetensors file") as caught:
        tl_nla.load_tiny()
    assert "\n" not in str(caught.value)


def test_missing_pair(monkeypatch, tmp_path):
    monkeypatch.setattr(tiny, "WEIGHTS", tmp_path)
    with pytest.raises(InputError, match="av") as caught:
        tl_nla.load_tiny()
    assert "\n" not in str(caught.value)
