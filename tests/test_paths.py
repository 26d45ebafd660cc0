"""A tilde is the home folder wherever a path enters, and never a folder of that name."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from tl_nla.errors import InputError
from tl_nla.paths import user_path, user_path_text
from tl_nla.storyworld.tiny import WEIGHTS, load_tiny


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and another one to work in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "home"
    assert list((tmp_path / "work").iterdir()) == [], "something was written beside the home folder"


def test_user_path(home):
    assert user_path("~/a") == home / "a"
    assert user_path_text(Path("~")) == str(home)
    assert user_path("a~b/~") == Path("a~b/~")
    with pytest.raises(InputError, match="of a user who has none"):
        user_path("~nobody_of_this_name/x")


@pytest.mark.usefixtures("unchecked")
def test_user_path_refuses_what_is_no_path():
    for bad in (None, 5, ["a"]):
        with pytest.raises(InputError, match="a path is"):
            user_path(bad)


def test_pairs_and_oracles(home):
    from tl_nla.nla import NLA
    from tl_nla.oracle import DiffOracle

    tiny = load_tiny()
    tiny.nla.save_pretrained("~/pair")
    assert (home / "pair" / "av" / "config.json").is_file()
    assert NLA.from_pretrained("~/pair/av", "~/pair/ar").layer == tiny.nla.layer
    shutil.copytree(WEIGHTS / "oracle", home / "first")
    DiffOracle.from_pretrained("~/first").save_pretrained("~/second", torch.float16)
    assert (home / "second" / "oracle.yaml").is_file()


def test_files(home):
    from tl_nla.data import check_source, load_documents
    from tl_nla.data.streams import stream_documents
    from tl_nla.steering.vectors import SteeringVector
    from tl_nla.storyworld.grounding import Grounding
    from tl_nla.whole_file import write_json

    SteeringVector(torch.ones(3), "blocks.0.mlp").save("~/vector.safetensors")
    assert SteeringVector.load("~/vector.safetensors").vector.tolist() == [1, 1, 1]
    Grounding({}, 0.5, "x").save("~/probes.safetensors")
    assert Grounding.load("~/probes.safetensors").site == "x"
    write_json({"a": 1}, "~/a.json")
    assert json.loads((home / "a.json").read_text()) == {"a": 1}
    with pytest.raises(InputError, match="there is no folder"):
        write_json({}, "~/none/a.json")
    (home / "a.txt").write_text("One.\n\nTwo.")
    check_source("~/a.txt")
    assert load_documents("~/a.txt", 5) == list(stream_documents("~/a.txt"))
    assert len(load_documents("~/a.txt", 5)) == 2


def test_modules(home):
    from lightning_modules import ActivationCapture, CapturedDataModule, SaveNLA
    from lightning_modules.callbacks.checkpoint_io import AtomicCheckpointIO
    from lightning_modules.callbacks.saving import SaveOracle
    from lightning_modules.training.nla_training import load_pair
    from lightning_modules.training.steering import SteeringWriter
    from lightning_modules.training.warm_start import create_nla

    folders = [module("~/x").folder for module in (ActivationCapture, CapturedDataModule, SaveNLA, SaveOracle)]
    assert folders == [home / "x"] * 4
    assert SteeringWriter("~/x.jsonl").path == home / "x.jsonl"
    load_tiny().nla.save_pretrained(home / "pair")
    assert create_nla("~/pair", 2, "affine").layer == load_pair("~/pair").layer == 2
    AtomicCheckpointIO().save_checkpoint({"a": 1}, "~/run/a.ckpt")
    assert AtomicCheckpointIO().load_checkpoint("~/run/a.ckpt") == {"a": 1}
    assert (home / "run" / "a.ckpt").is_file()


def test_command_line(home, capsys):
    from tl_nla.cli.main import main
    from tl_nla.cli.training import resolve_configs

    assert main(["verbalize", "Tom was", "--last", "1", "--json", "~/out.json"]) == 0
    assert json.loads((home / "out.json").read_text())["rows"]
    assert main(["demo", "Tom was", "--last", "1", "--svg", "~/out.svg"]) == 0
    assert (home / "out.svg").is_file()
    (home / "my.yaml").write_text("a: 1\n")
    assert resolve_configs(["-c", "~/my.yaml"]) == ["-c", str(home / "my.yaml")]
    capsys.readouterr()
    assert main(["demo", "Tom", "--json", "~nobody_of_this_name/x.json"]) == 2
    assert "of a user who has none" in capsys.readouterr().err


def test_the_report_of_a_folder_with_spaces_can_be_pasted(home, capsys):
    import shlex

    from tl_nla.cli.main import main

    assert main(["contributions", "Tom was", "--labels", "--logdir", "~/my runs [1]"]) == 0
    assert list((home / "my runs [1]").iterdir())
    line = next(line for line in capsys.readouterr().out.split("\n") if "tensorboard --logdir" in line)
    words = shlex.split(line[line.index("tensorboard --logdir") :])
    assert words == ["tensorboard", "--logdir", os.fspath(home / "my runs [1]")]
