"""Trained parts on the disk: loaded instead of trained again, never mixed up."""

import pytest
import torch
from torch import nn

from lightning_modules.training.fit_oracle import Curve
from lightning_modules.training.kept_parts import KeptParts
from tl_nla.errors import InputError


def trainer(module, value):
    def train():
        with torch.no_grad():
            module.weight.fill_(value)
        return Curve([1], [[value, float("nan")]])

    return train


def test_a_kept_part_is_loaded_with_its_curve(tmp_path):
    first, second = nn.Linear(2, 1), nn.Linear(2, 1).train()
    KeptParts(tmp_path / "parts", "seed 0").trained("cat", first, trainer(first, 3.0))
    curve = KeptParts(tmp_path / "parts", "seed 0").trained("cat", second, trainer(second, 7.0))
    assert torch.equal(second.weight, torch.full((1, 2), 3.0))
    assert torch.equal(second.bias, first.bias)
    assert curve.steps == [1]
    assert curve.scores[0][0] == 3.0
    assert not second.training
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["cat.safetensors"]


def test_what_broke_off_is_trained_again(tmp_path):
    module = nn.Linear(2, 1)
    kept = KeptParts(tmp_path, "seed 0")

    def cut():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.trained("cat", module, cut)
    kept.trained("cat", module, trainer(module, 2.0))
    assert torch.equal(module.weight, torch.full((1, 2), 2.0))


def test_parts_of_other_settings_and_damaged_ones_are_refused(tmp_path):
    module = nn.Linear(2, 1)
    KeptParts(tmp_path, "seed 0").trained("cat", module, trainer(module, 1.0))
    with pytest.raises(InputError, match=r"other settings \(seed 0; now seed 1\)"):
        KeptParts(tmp_path, "seed 1").trained("cat", module, trainer(module, 2.0))
    path = tmp_path / "cat.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        KeptParts(tmp_path, "seed 0").trained("cat", module, trainer(module, 2.0))


def test_without_a_folder_everything_is_trained():
    module = nn.Linear(2, 1)
    KeptParts(None, "seed 0").trained("cat", module, trainer(module, 4.0))
    assert torch.equal(module.weight, torch.full((1, 2), 4.0))


def test_a_kept_list_is_read_and_not_made_again(tmp_path):
    kept = KeptParts(tmp_path / "parts", "seed 0")
    assert kept.listed("words", lambda: ["red", "été"]) == ["red", "été"]
    assert kept.listed("words", lambda: ["blue"]) == ["red", "été"]
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["words.json"]
    with pytest.raises(InputError, match=r"other settings \(seed 0; now seed 1\)"):
        KeptParts(tmp_path / "parts", "seed 1").listed("words", list)
    (tmp_path / "parts" / "words.json").write_text('{"words": 3}')
    with pytest.raises(InputError, match="no list of words"):
        kept.listed("words", list)
    assert KeptParts(None, "").listed("words", lambda: ["green"]) == ["green"]
