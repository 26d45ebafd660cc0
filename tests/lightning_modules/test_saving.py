import lightning as L
import pytest

from lightning_modules.diff import DiffNLATraining, DiffOracleTraining, create_oracle
from lightning_modules.saving import SaveNLA, SaveOracle
from tests import zoo
from tests.lightning_modules.test_diff import data  # noqa: F401 (a fixture)
from tests.oracle.tiny import make_oracle
from tl_nla.errors import InputError


def test_a_training_goes_on_from_the_folder_of_the_one_before(data, tmp_path):  # noqa: F811
    settings = {
        "accelerator": "cpu", "devices": 1, "max_steps": 1, "limit_val_batches": 0, "logger": False,
        "enable_checkpointing": False, "enable_model_summary": False, "enable_progress_bar": False,
    }  # fmt: skip
    first = DiffOracleTraining(oracle=make_oracle(), learning_rate=0.01)
    L.Trainer(**settings, callbacks=[SaveOracle(str(tmp_path / "first"))]).fit(first, datamodule=data)
    second = DiffNLATraining(model=str(tmp_path / "first"), learning_rate=0.01)
    known = {name: value.clone() for name, value in second.oracle.state_dict().items()}
    for name, value in first.oracle.state_dict().items():
        assert (known[name] == value).all(), name
    L.Trainer(**settings, callbacks=[SaveOracle(str(tmp_path / "second"))]).fit(second, datamodule=data)
    last = create_oracle(str(tmp_path / "second"))
    assert last.strength is not None
    changed = {name.split(".")[0] for name, value in last.state_dict().items() if not (known[name] == value).all()}
    assert changed == {"reconstructor"}
    with pytest.raises(InputError, match="has the marker '㈎'; leave out injection_char"):
        DiffNLATraining(model=str(tmp_path / "second"), injection_char="㈏")


def test_what_cannot_be_saved_is_refused_before_training(tmp_path):
    for callback, name in ((SaveNLA, "SaveNLA"), (SaveOracle, "SaveOracle")):
        with pytest.raises(InputError, match=f"{name} saves"):
            callback(str(tmp_path)).setup(L.Trainer(logger=False, accelerator="cpu"), L.LightningModule(), "fit")
    assert not list(tmp_path.iterdir())


def test_the_marker_of_a_fresh_oracle_can_be_named(tmp_path):
    zoo.save_target(tmp_path)
    assert DiffOracleTraining(model=str(tmp_path), injection_char="㈎").reader.char == "㈎"
    with pytest.raises(InputError, match="no token of its own"):
        DiffOracleTraining(model=str(tmp_path), injection_char="㈏")
