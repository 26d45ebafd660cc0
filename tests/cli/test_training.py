"""``tl-nla fit`` and its siblings: what is wrong ends in one line and exit code 2, before anything is trained."""

import json
import logging
import math
import os
from pathlib import Path

import pytest
import torch
import yaml

from tests.read_only import read_only_folder  # noqa: F401 (a fixture)
from tl_nla.cli.main import main
from tl_nla.cli.training import configs_folder, resolve_configs
from tl_nla.errors import InputError

SMALL = ["-c", "tiny_reconstructor.yaml", "--trainer.max_steps", "2", "--data.init_args.corpus.documents", "24",
         "--data.init_args.serving.batch_size", "4", "--trainer.limit_val_batches", "1", "--trainer.accelerator", "cpu",
         "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]  # fmt: skip


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Runs the command line in an empty folder and gives its one line."""
    monkeypatch.chdir(tmp_path)
    # Lightning's log handler may still hold the stream of an earlier test.
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("INFO", "Seed"))]
        said = [line for line in lines if line.startswith("tl-nla: ")]
        assert len(said) == 1
        assert lines[-1] == said[0]
        assert not any("Traceback" in line for line in lines)
        return said[0]

    return run


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_a_read_only_folder_without_a_logger(stage, refused, read_only_folder):  # noqa: F811
    """The configuration is saved there: it used to end in a traceback of jsonargparse, after the capture."""
    os.chdir(read_only_folder)
    said = refused(stage, *SMALL, "--trainer.logger", "false", "--trainer.callbacks", "null")
    assert "cannot write to" in said


@pytest.mark.parametrize(
    "option",
    ["--trainer.callbacks.init_args.folder", "--trainer.logger.init_args.save_dir", "--trainer.default_root_dir"],
)
def test_other_folders_that_cannot_be_written(option, refused, read_only_folder):  # noqa: F811
    more = ["--trainer.logger", "false"] if option.endswith("root_dir") else []
    assert "cannot write to" in refused("fit", *SMALL, *more, option, read_only_folder / "new")


def test_a_trial_run_needs_no_folder_for_its_configuration(read_only_folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(read_only_folder)
    more = ["--trainer.logger", "false", "--trainer.callbacks", "null", "--trainer.fast_dev_run", "true"]
    assert main(["fit", *SMALL, *more, "--json", str(tmp_path / "metrics.json")]) == 0
    content = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert content["command"] == "fit"
    assert content["steps"] == 1
    assert math.isfinite(content["metrics"]["train/loss"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data.init_args.serving.batch_size", "4000"], "make no batch of 4000"),
        (["--data.init_args.serving.batch_size", "0"], "batch_size is 0"),
        (["--model.init_args.layer", "1"], "states at 'blocks.2.hook_resid_post'"),
        (["--model.init_args.learning_rate", "-1"], "learning_rate is -1.0"),
        (["--trainer.precision", "16-true"], "use one of '32-true'"),
        (["--trainer.limit_train_batches", "0"], "nothing would be trained"),
        (["--trainer.accelerator", "tpu"], "torch_xla"),
        (["--trainer.strategy", "nope"], "strategy"),
        (["--trainer.val_check_interval", "50", "--trainer.check_val_every_n_epoch", "1"], "val_check_interval"),
        (["--ckpt_path", "nothing.ckpt"], "no checkpoint 'nothing.ckpt'"),
        (["--ckpt_path", "text.ckpt"], "checkpoint 'text.ckpt' cannot be read"),
    ],
)
def test_misuses_are_one_line(arguments, says, refused, tmp_path):
    (tmp_path / "text.ckpt").write_text("weights")
    assert says in refused("fit", *SMALL, *arguments)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_faults_keep_their_traceback(monkeypatch, tmp_path):
    """A ValueError that no library raised about its arguments is a fault of ours: on request it keeps its traceback."""
    monkeypatch.setenv("TL_NLA_TRACEBACK", "1")
    monkeypatch.chdir(tmp_path)

    def broken(*_args):
        raise ValueError("a fault")

    monkeypatch.setattr("lightning_modules.training.warm_start.reconstruction_loss", broken)
    with pytest.raises(ValueError, match="a fault"):
        main(["fit", *SMALL, "--trainer.callbacks", "null", "--trainer.logger", "false"])


def test_configurations_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packaged = str(configs_folder() / "tiny_verbalizer.yaml")
    assert resolve_configs(["-c", "tiny_verbalizer.yaml"]) == ["-c", packaged]
    assert resolve_configs(["--config=tiny_verbalizer.yaml", "-c"]) == [f"--config={packaged}", "-c"]
    Path("tiny_verbalizer.yaml").write_text("{}")
    assert resolve_configs(["-c", "tiny_verbalizer.yaml"]) == ["-c", "tiny_verbalizer.yaml"]
    Path("binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"config 'binary\.yaml' cannot be read as text"):
        resolve_configs(["-c", "binary.yaml"])


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "holds nothing"), ("# nothing\n", "holds nothing"), ("- a\n", "holds list"), ("a: [1", "no YAML")],
)
def test_what_is_no_configuration_is_named(content, says, tmp_path):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(InputError, match=rf"own\.yaml' (is )?{says}"):
        resolve_configs(["-c", str(tmp_path / "own.yaml")])


def test_a_missing_checkpoint_is_refused_before_anything_is_loaded(monkeypatch, refused):
    def setup(*_arguments):
        raise AssertionError("the data were made first")

    monkeypatch.setattr("lightning_modules.ActivationDataModule.setup", setup)
    assert "no checkpoint 'nothing.ckpt'" in refused("fit", *SMALL, "--ckpt_path", "nothing.ckpt")


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_a_warm_start_goes_on_to_more_steps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((configs_folder() / "tiny_reconstructor.yaml").read_text())
    saver = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
             "init_args": {"dirpath": "kept", "every_n_train_steps": 1, "save_last": True}}  # fmt: skip
    content["trainer"]["callbacks"] = [{"class_path": "lightning_modules.ExactResume"}, saver]
    Path("mine.yaml").write_text(yaml.safe_dump(content))
    again = ["fit", "-c", "mine.yaml", *SMALL[2:], "--trainer.logger", "false"]
    assert main(again) == 0
    assert main([*again, "--trainer.max_steps", "4", "--ckpt_path", "kept/last.ckpt"]) == 0
    assert torch.load("kept/last.ckpt", weights_only=True)["global_step"] == 4


def test_an_estimate_of_a_training_loads_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tl_nla.model.loading.load_causal_lm", lambda *given, **named: pytest.fail("loaded"))
    assert main(["fit", "-c", "tiny_verbalizer.yaml", "--estimate", "--json", "estimate.json"]) == 0
    assert "estimate of verbalizer" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["estimate.json"]
    assert json.loads(Path("estimate.json").read_text(encoding="utf-8"))["task"] == "verbalizer"
    assert main(["validate", "-c", "tiny_verbalizer.yaml", "--estimate"]) == 2
