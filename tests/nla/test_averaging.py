"""The mean of trained pairs: number by number, and only of pairs that are alike."""

import json

import pytest
import torch

from tests.nla.test_adapted import TOKENIZER, moved, small
from tl_nla.errors import InputError
from tl_nla.nla.adapted_files import load_adapted, save_adapted, trained_tensors
from tl_nla.nla.averaging import average_adapted

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def pairs(tmp_path):
    model, first = small()
    _, second = small()
    model.save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    for name, nla in (("first", first), ("second", moved(second))):
        nla.base, nla.mean = str(tmp_path / "model"), torch.ones(nla.d_model)
        save_adapted(nla, tmp_path / name)
    return first, second


def test_every_number_is_the_mean(pairs, tmp_path):
    average_adapted([tmp_path / "first", tmp_path / "second"], tmp_path / "mean", {"seed": 1})
    found = trained_tensors(load_adapted(str(tmp_path / "mean")))
    first, second = (trained_tensors(nla) for nla in pairs)
    assert found.keys() == first.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, (first[name] + second[name]) / 2)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    told = json.loads((tmp_path / "mean" / "adapters.json").read_text())
    assert told["about"] == {"seed": 1}
    assert told["mean_of"] == [str(tmp_path / "first"), str(tmp_path / "second")]


def test_a_pair_that_is_named_twice_weighs_twice(pairs, tmp_path):
    average_adapted([tmp_path / "first", tmp_path / "second", tmp_path / "second"], tmp_path / "mean")
    found = trained_tensors(load_adapted(str(tmp_path / "mean")))
    first, second = (trained_tensors(nla) for nla in pairs)
    for name, value in found.items():
        torch.testing.assert_close(value, (first[name] + 2 * second[name]) / 3)


def test_what_has_no_mean_is_refused(pairs, tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for few in ([], [folders[0]]):
        with pytest.raises(InputError, match="two pairs or more"):
            average_adapted(few, tmp_path / "mean")
    with pytest.raises(InputError, match="another folder"):
        average_adapted(folders, tmp_path / "second")
    told = json.loads((folders[1] / "adapters.json").read_text())
    for change in ({"base": "another"}, {"slots": 2}):
        (folders[1] / "adapters.json").write_text(json.dumps({**told, **change}))
        with pytest.raises(InputError, match="other settings"):
            average_adapted(folders, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


@pytest.mark.usefixtures("unchecked")
def test_one_folder_is_no_list_of_them(tmp_path):
    for wrong in ("runs/first", tmp_path, None, iter([tmp_path, tmp_path])):
        with pytest.raises(InputError, match="two pairs or more"):
            average_adapted(wrong, tmp_path / "mean")
