"""What is saved after a training, and when nothing is: in a trial run, without a step, where it cannot be written."""

import hashlib
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from lightning_modules.callbacks.reports import ContributionReportCallback, ShownConfig
from lightning_modules.callbacks.resume import ExactResume
from lightning_modules.callbacks.samples import ExplanationSamples
from lightning_modules.callbacks.saving import SaveNLA, SaveOracle
from lightning_modules.data.documents import DocumentDataModule
from lightning_modules.data.resumable_loader import ResumableLoader
from lightning_modules.outputs import check_outputs
from lightning_modules.training.capture import ActivationCapture
from lightning_modules.training.diff import DiffDataModule, DiffNLATraining, DiffOracleTraining, create_oracle
from lightning_modules.training.stages import Stages
from lightning_modules.training.steering import SteeringPrompt, SteeringPrompts, SteeringSweep, SteeringWriter
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tests import zoo
from tests.lightning_modules.grouping import made
from tests.lightning_modules.test_precisions import Served, documents
from tests.lightning_modules.training.test_diff import data  # noqa: F401 (a fixture)
from tests.nla.test_generation import make
from tests.oracle.tiny import make_oracle
from tests.read_only import read_only_folder  # noqa: F401 (a fixture)
from tl_nla.errors import InputError

QUIET = {
    "accelerator": "cpu", "devices": 1, "limit_val_batches": 0, "logger": False, "enable_checkpointing": False,
    "enable_model_summary": False, "enable_progress_bar": False,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices")


def contents(folder: Path):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def states():
    acts = torch.randn(6, zoo.D_MODEL, generator=torch.Generator().manual_seed(1))
    return Served([{"acts": act, "texts": "abcdefgh"[: 1 + number]} for number, act in enumerate(acts)])


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
    assert DiffOracleTraining(model=str(tmp_path), injection_char="㈎").verbalizer.char == "㈎"
    with pytest.raises(InputError, match="no token of its own"):
        DiffOracleTraining(model=str(tmp_path), injection_char="㈏")


def test_a_trial_run_does_not_overwrite_a_trained_pair_or_oracle(data, tmp_path):  # noqa: F811
    pair, oracle = make("llama", "affine"), make_oracle()
    pair.save_pretrained(tmp_path)
    oracle.save_pretrained(tmp_path / "oracle")
    before = contents(tmp_path)
    L.Trainer(**QUIET, fast_dev_run=True, callbacks=[SaveNLA(str(tmp_path))]).fit(
        VerbalizerWarmStart(nla=pair), datamodule=states()
    )
    L.Trainer(**QUIET, fast_dev_run=2, callbacks=[SaveOracle(str(tmp_path / "oracle"))]).fit(
        DiffOracleTraining(oracle=oracle), datamodule=data
    )
    assert contents(tmp_path) == before
    L.Trainer(**QUIET, max_steps=1, callbacks=[SaveNLA(str(tmp_path))]).fit(
        VerbalizerWarmStart(nla=pair), datamodule=states()
    )
    assert contents(tmp_path) != before


def test_trial_runs_of_captures_sweeps_and_reports_write_nothing(data, get_model, tmp_path):  # noqa: F811
    (tmp_path / "runs.jsonl").write_text("of last week\n")
    model, tokenizer = get_model("bridge", "llama"), zoo.tokenizer()
    quick = {**QUIET, "fast_dev_run": True}
    capture = made(
        ActivationCapture, str(tmp_path / "capture"), model, tokenizer, "blocks.1.hook_resid_post",
        positions_per_document=2,
    )  # fmt: skip
    few = DocumentDataModule(documents(8, 9), documents_per_shard=8, heldout=0.3)
    L.Trainer(**quick).predict(capture, datamodule=few, return_predictions=False)
    prompts = SteeringPrompts([SteeringPrompt("Tom found a kite painted red. The kite was", "red->yellow")])
    writer = SteeringWriter(str(tmp_path / "runs.jsonl"))
    L.Trainer(**quick, callbacks=[writer]).predict(SteeringSweep(new_tokens=2), datamodule=prompts)
    shown = ShownConfig(images=False)
    report = ContributionReportCallback(["w5 w9 w6"], 1, model, tokenizer, oracle=None, shown=shown)
    L.Trainer(**quick, callbacks=[report]).fit(DiffOracleTraining(oracle=make_oracle()), datamodule=data)
    assert report.reports, "what would be logged is made all the same"
    assert [path.name for path in tmp_path.rglob("*")] == ["runs.jsonl"]
    assert (tmp_path / "runs.jsonl").read_text() == "of last week\n"


class Untrained(VerbalizerWarmStart):
    def training_step(self, batch, batch_idx):
        raise AssertionError("the folder should have been looked at before")


@pytest.mark.parametrize("trial", [False, True])
def test_a_folder_that_cannot_be_written_is_found_out_before_training(trial, read_only_folder):  # noqa: F811
    for folder in (read_only_folder, read_only_folder / "new" / "pair"):
        trainer = L.Trainer(**QUIET, max_epochs=1, fast_dev_run=trial, callbacks=[SaveNLA(str(folder))])
        with pytest.raises(InputError, match="cannot write to"):
            trainer.fit(Untrained(nla=make("llama", "affine")), datamodule=states())
        with pytest.raises(InputError, match="cannot write to"):
            SaveOracle(str(folder / "oracle")).setup(trainer, DiffOracleTraining(oracle=make_oracle()), "fit")
        SaveNLA(str(folder)).setup(trainer, Untrained(nla=make("llama", "affine")), "validate")


def test_so_is_one_of_checkpoints_captures_sweeps_and_stages(read_only_folder, get_model):  # noqa: F811
    saving = [ExactResume(), ModelCheckpoint(read_only_folder / "checkpoints")]
    trainer = L.Trainer(**{**QUIET, "enable_checkpointing": True}, max_epochs=1, callbacks=saving)
    with pytest.raises(InputError, match="cannot write to"):
        trainer.fit(Untrained(nla=make("llama", "affine")), datamodule=states())
    capture = ActivationCapture(str(read_only_folder / "capture"), get_model("bridge", "llama"), zoo.tokenizer())
    with pytest.raises(InputError, match="cannot write to"):
        L.Trainer(**QUIET).predict(capture, datamodule=DocumentDataModule(documents(4, 9), heldout=0.3))
    writer = SteeringWriter(str(read_only_folder / "runs.jsonl"))
    with pytest.raises(InputError, match="cannot write to"):
        check_outputs(L.Trainer(**QUIET, callbacks=[writer]), "predict")

    def train():
        raise AssertionError("the folder should have been looked at before")

    with pytest.raises(InputError, match="cannot write to"):
        Stages(read_only_folder, "").run("part", torch.nn.Linear(1, 1), train)
    with pytest.raises(InputError, match="cannot write to"):
        Stages(read_only_folder, "").listed("words", train)


@pytest.mark.parametrize("kind", [VerbalizerWarmStart, ReconstructorWarmStart])
def test_a_batch_that_cannot_be_filled_is_refused_before_training(kind, tmp_path):
    """It used to train nothing, and to save the pair as it was."""
    served = states()
    served.train_dataloader = lambda: ResumableLoader(served.rows, 7, drop_last=True)
    for trial in (False, True):
        trainer = L.Trainer(**QUIET, max_epochs=1, fast_dev_run=trial, callbacks=[SaveNLA(str(tmp_path / "pair"))])
        with pytest.raises(InputError, match="6 rows to train on make no batch of 7; give a smaller batch_size"):
            trainer.fit(kind(nla=make("llama", "affine")), datamodule=served)
    assert not list(tmp_path.iterdir())


def test_so_are_items_of_writes(data):  # noqa: F811
    few = made(DiffDataModule, *data._target, ("heads",), batch_size=10**4)
    few.train_writes, few.heldout_writes, few.reference = data.train_writes, data.heldout_writes, data.reference
    with pytest.raises(InputError, match=r"\d+ rows to train on make no batch of 10000"):
        L.Trainer(**QUIET, max_steps=2).fit(DiffOracleTraining(oracle=make_oracle()), datamodule=few)


def test_nothing_is_saved_when_no_step_was_made(tmp_path):
    trainer = L.Trainer(**QUIET, max_epochs=0, callbacks=[SaveNLA(str(tmp_path / "pair"))])
    with pytest.raises(InputError, match=r"no step was made .*max_epochs 0.*so the pair was not saved"):
        trainer.fit(VerbalizerWarmStart(nla=make("llama", "affine")), datamodule=states())
    assert not list(tmp_path.iterdir())


def test_tables_of_explanations_are_asked_for_before_training(data):  # noqa: F811
    for module, loader, says in (
        (DiffOracleTraining(oracle=make_oracle()), data.train_dataloader(), "ExplanationSamples shows words"),
        (VerbalizerWarmStart(nla=make("llama", "affine")), DataLoader(states().rows), "with heldout_rows"),
    ):
        with pytest.raises(InputError, match=says):
            L.Trainer(**QUIET, max_steps=1, callbacks=[ExplanationSamples()]).fit(module, loader, loader)
