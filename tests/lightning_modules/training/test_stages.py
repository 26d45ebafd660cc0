"""Stages on the disk: loaded instead of trained again, gone on with, never mixed up."""

import pytest
import torch
from torch import nn

from lightning_modules.training.stage import StageConfig, StageSpec
from lightning_modules.training.stages import Stages
from tl_nla.errors import InputError


def module(value=1.0):
    made = nn.Linear(2, 1)
    nn.init.constant_(made.weight, value)
    return made


def towards(made, value, stop=None, losses=None):
    """A stage that draws all weights to a value; it is interrupted at a step."""
    seen = [] if losses is None else losses

    def loss(rows):
        seen.append(rows)
        if len(seen) == stop:
            raise KeyboardInterrupt
        return (made.weight - value).square().sum()

    return lambda: StageSpec(loss, 5, StageConfig(40, 2, 0.1, curve=2, optimizer="adamw"))


def none():
    raise AssertionError("what is kept is not prepared again")


def test_a_finished_stage_is_loaded_with_its_curve(tmp_path):
    first, second, told = module(), module().train(), []
    curve = Stages(tmp_path / "kept", "seed 0").run("cat", first, towards(first, 3.0))
    found = Stages(tmp_path / "kept", "seed 0", lambda *said: told.append(said)).run("cat", second, none)
    assert (first.weight > 1.5).all()
    assert torch.equal(second.weight, first.weight)
    assert torch.equal(second.bias, first.bias)
    assert found == curve
    assert found.steps == [20, 40]
    assert not second.training
    assert told == [("cat", 40, 40)]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["cat.safetensors"]


def test_an_interrupted_stage_goes_on_where_it_was(tmp_path):
    whole, broken, again, told, losses = module(), module(), module(5.0), [], []
    Stages(None, "").run("cat", whole, towards(whole, 3.0))
    stages = Stages(tmp_path, "seed 0", lambda *said: told.append(said))
    with pytest.raises(KeyboardInterrupt):
        stages.run("cat", broken, towards(broken, 3.0, stop=30))
    assert [path.name for path in tmp_path.iterdir()] == ["cat.ckpt"]
    told.clear()
    stages.run("cat", again, towards(again, 3.0, losses=losses))
    assert told[:2] == [("cat", 0, 0), ("cat", 28, 40)]
    assert len(losses) == 12
    assert torch.equal(again.weight, whole.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["cat.safetensors"]


def test_stages_of_other_settings_and_damaged_ones_are_refused(tmp_path):
    made = module()
    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path, "seed 0").run("cat", made, towards(made, 1.0, stop=30))
    with pytest.raises(InputError, match=r"other settings \(seed 0, .*now seed 1, "):
        Stages(tmp_path, "seed 1").run("cat", made, towards(made, 1.0))
    Stages(tmp_path, "seed 0").run("cat", made, towards(made, 1.0))
    with pytest.raises(InputError, match=r"other settings \(seed 0; now seed 1\)"):
        Stages(tmp_path, "seed 1").run("cat", made, none)
    with pytest.raises(InputError, match=r"other settings \(seed 0; now seed 0, wide\)"):
        Stages(tmp_path, "seed 0").with_settings("wide").run("cat", made, none)
    path = tmp_path / "cat.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        Stages(tmp_path, "seed 0").run("cat", made, none)


def test_a_stage_that_comes_to_no_number_is_not_kept(tmp_path):
    made = module()
    with pytest.raises(InputError, match="cat"):
        Stages(tmp_path, "seed 0").run("cat", made, towards(made, float("nan")))
    assert not (tmp_path / "cat.safetensors").exists()


def test_a_kept_list_is_read_and_not_made_again(tmp_path):
    kept = Stages(tmp_path / "kept", "seed 0")
    assert kept.listed("words", lambda: ["red", "été"]) == ["red", "été"]
    assert kept.listed("words", lambda: ["blue"]) == ["red", "été"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["words.json"]
    with pytest.raises(InputError, match=r"other settings \(seed 0; now seed 1\)"):
        Stages(tmp_path / "kept", "seed 1").listed("words", list)
    (tmp_path / "kept" / "words.json").write_text('{"words": 3}')
    with pytest.raises(InputError, match="no list of words"):
        kept.listed("words", list)
    assert Stages(None, "").listed("words", lambda: ["green"]) == ["green"]
