"""Command lines and files of the last release still run; each old setting warns once and names its group."""

from pathlib import Path

import pytest
import yaml

from lightning_modules.old_settings import translated, translated_arguments

OLD = {
    "model": {"class_path": "lightning_modules.NLATraining", "init_args": {"model": "tiny", "kl_weight": 0.5}},
    "trainer": {"max_steps": 1},
}
NEW = {"model": "tiny", "policy": {"kl_weight": 0.5}}


def test_old_names_of_a_file_are_put_into_groups(tmp_path):
    with pytest.warns(DeprecationWarning, match="kl_weight of NLATraining is now policy.kl_weight"):
        assert translated(OLD)["model"]["init_args"] == NEW
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(OLD))
    for given in (["fit", "-c", str(file)], ["fit", f"--config={file}"]):
        with pytest.warns(DeprecationWarning, match="is now policy.kl_weight"):
            assert used(given, str(file)) == NEW


def used(given, old):
    """Settings of the model in the file that a command line is turned into."""
    with translated_arguments(given) as found:
        path = found[-1].removeprefix("--config=")
        assert path != old
        return yaml.safe_load(Path(path).read_text())["model"]["init_args"]


def test_files_without_old_names_stay_as_they_are(tmp_path):
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump({"model": {**OLD["model"], "init_args": NEW}}))
    given = ["fit", "-c", str(file), "--trainer.max_steps=3"]
    with translated_arguments(given) as found:
        assert found == given


def test_old_names_of_a_command_line_are_put_into_groups(tmp_path):
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump({"model": {**OLD["model"], "init_args": NEW}}))
    for given, old, new in (
        (["fit", "-c", str(file), "--model.init_args.learning_rate", "1"], 3, "--model.init_args.rates.learning_rate"),
        (["fit", "--model=DiffNLAReinforcement", "--model.kl_weight=1"], 2, "--model.policy.kl_weight=1"),
        (["fit", "--data=DiffDataModule", "--data.documents=3"], 2, "--data.corpus.documents=3"),
    ):
        with pytest.warns(DeprecationWarning, match="is now"):
            assert words_of(given)[old] == new
    other = ["fit", "--model=DiffOracleTraining", "--model.learning_rate=1"]
    assert words_of(other) == other


def words_of(given):
    with translated_arguments(given) as found:
        return found
