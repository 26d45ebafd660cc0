"""A site, a layer or a size that is given in two places has to be the same in both, in every run of the Trainer."""

import dataclasses

import lightning as L
import pytest
import torch

from lightning_modules.agreement import check_checkpoint, check_weights, same_state
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.captured import CapturedDataModule
from lightning_modules.training.contribution import ContributionDataModule, LayerContribution
from lightning_modules.training.diff import DiffDataModule, DiffNLATraining, DiffOracleTraining
from lightning_modules.training.diff_rewards import DiffNLAReinforcement
from lightning_modules.training.nla_training import NLATraining
from lightning_modules.training.source_training import SourceDataModule, SourceEncoderTraining
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tests import zoo
from tests.lightning_modules.capturing import capture
from tests.lightning_modules.grouping import made
from tests.lightning_modules.test_precisions import documents
from tests.nla.test_generation import make
from tests.oracle.tiny import make_oracle
from tl_nla.errors import InputError
from tl_nla.model.cut import cut_backbone
from tl_nla.nla import NLA, RolloutConfig

QUIET = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False, "max_steps": 1,
         "enable_model_summary": False, "enable_checkpointing": False, "num_sanity_val_steps": 0,
         "limit_val_batches": 1, "limit_test_batches": 1, "limit_predict_batches": 1}  # fmt: skip
STAGES = ("fit", "validate", "test", "predict")
STATES = (VerbalizerWarmStart, ReconstructorWarmStart, NLATraining)
WRITES = (DiffOracleTraining, DiffNLATraining, DiffNLAReinforcement)


def states(get_model, site):
    data = made(
        ActivationDataModule, get_model("bridge", "llama"), zoo.tokenizer(), site, source=documents(6, 7),
        positions_per_document=1, batch_size=2,
        heldout=0.3,
    )  # fmt: skip
    data.setup()
    return data


@pytest.fixture(scope="module")
def right(get_model):
    return states(get_model, "blocks.1.hook_resid_post")


@pytest.fixture(scope="module")
def wrong(get_model):
    return states(get_model, "blocks.0.hook_resid_post")


def build(kind, **settings):
    if kind is NLATraining:
        settings["rollouts"] = RolloutConfig(2, 4)
    return kind(nla=make("llama", "affine"), **settings)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", STATES)
def test_states_of_another_layer_are_refused(kind, stage, wrong):
    """It used to train, and the saved pair said the layer that its vectors were not from."""
    trainer = L.Trainer(**QUIET)
    says = f"the data are states at 'blocks.0.hook_resid_post', {kind.__name__} explains 'blocks.1.hook_resid_post'"
    with pytest.raises(InputError, match=says):
        getattr(trainer, stage)(build(kind), datamodule=wrong)


def test_states_of_the_same_layer_are_trained_on(right, get_model):
    for data in (right, states(get_model, "blocks.2.hook_resid_pre")):
        L.Trainer(**QUIET).fit(build(ReconstructorWarmStart), datamodule=data)
    for kind in STATES:
        (found,) = L.Trainer(**QUIET).predict(build(kind), datamodule=right)
        assert len(found) == 2


def test_captured_states_of_another_layer_are_refused(get_model, tmp_path):
    module = capture(tmp_path, get_model("bridge", "llama"))
    data = CapturedDataModule(str(tmp_path), batch_size=4)
    assert data.site == str(module.site) == "blocks.1.hook_resid_post"
    assert data.width == zoo.D_MODEL
    L.Trainer(**QUIET).fit(build(VerbalizerWarmStart), datamodule=data)
    settings = (tmp_path / "capture.json").read_text()
    (tmp_path / "capture.json").write_text(settings.replace("blocks.1.hook_resid_post", "blocks.0.hook_resid_post"))
    for stage in ("fit", "validate"):
        with pytest.raises(InputError, match=r"states at 'blocks\.0\.hook_resid_post'"):
            getattr(L.Trainer(**QUIET), stage)(build(VerbalizerWarmStart), datamodule=data)
    (tmp_path / "capture.json").unlink()
    assert data.site is None
    L.Trainer(**QUIET).validate(build(VerbalizerWarmStart), datamodule=data, verbose=False)


def test_vectors_of_another_size_are_refused(right):
    narrow = ActivationDataModule("tiny", site="blocks.1.hook_resid_post")
    for name in ("train_states", "heldout_states"):
        whole = getattr(right, name)
        setattr(narrow, name, dataclasses.replace(whole, acts=whole.acts[:, :8]))
    for kind in STATES:
        with pytest.raises(InputError, match=r"the data hold vectors of size 8, .* reads size 32"):
            L.Trainer(**QUIET).fit(build(kind), datamodule=narrow)


@pytest.fixture(scope="module")
def kinds(get_model, right):
    """Data modules of all kinds."""
    given = get_model("bridge", "llama"), zoo.tokenizer()
    few = {"positions_per_document": 1, "batch_size": 2, "heldout": 0.3}
    found = {
        "states": right,
        "writes": made(DiffDataModule, *given, ("heads",), source=documents(6, 7), skips=False, questions=0, **few),
        "sources": made(
            SourceDataModule, *given, source=documents(8, 40), positions_per_document=8, batch_size=8, heldout=0.3
        ),
        "residuals": made(ContributionDataModule, *given, source=documents(6, 7), **few),
    }
    for data in found.values():
        data.setup()
    return found


@pytest.mark.parametrize("kind", [*STATES, *WRITES, SourceEncoderTraining, LayerContribution])
def test_data_of_another_kind_are_refused(kind, kinds, get_model):
    """They ended in a KeyError."""
    extra = {"target": get_model("bridge", "llama")} if kind is LayerContribution else {}
    made = build(kind) if kind in STATES else kind(oracle=make_oracle(), **extra)
    for serves, data in kinds.items():
        if serves != made.needs:
            with pytest.raises(InputError, match=f"is trained on {made.needs}, .* serves {serves}; give it"):
                L.Trainer(**QUIET).fit(made, datamodule=data)


def test_a_wider_oracle_is_refused(kinds):
    with pytest.raises(InputError, match=r"vectors of size 32, DiffOracleTraining reads size 24"):
        L.Trainer(**QUIET).fit(DiffOracleTraining(oracle=make_oracle(d_act=24)), datamodule=kinds["writes"])


def saved(module, data, path):
    trainer = L.Trainer(**QUIET)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(path)
    return path


def at_layer(layer):
    """A pair of another layer, made from the same model."""
    pair = make("llama", "affine")
    pair.reconstructor.backbone = cut_backbone(pair.reconstructor.backbone, layer + 1)
    return NLA(pair.verbalizer, pair.reconstructor, layer)


@pytest.mark.parametrize("kind", STATES)
def test_a_checkpoint_of_another_layer_is_refused(kind, right, wrong, tmp_path):
    path = saved(build(kind), right, tmp_path / "one.ckpt")
    settings = {"rollouts": RolloutConfig(2, 4)} if kind is NLATraining else {}
    for stage in STAGES:
        run = getattr(L.Trainer(**{**QUIET, "max_steps": 2}), stage)
        with pytest.raises(InputError, match=r"written with .* of site 'blocks\.1\.hook_resid_post', this run has"):
            run(kind(nla=at_layer(0), **settings), datamodule=wrong, ckpt_path=path, weights_only=True)


def test_a_checkpoint_is_of_the_layer_that_the_pair_has(right, tmp_path):
    path = saved(VerbalizerWarmStart(nla=make("llama", "affine")), right, tmp_path / "one.ckpt")
    known = torch.load(path, weights_only=True)
    assert known["hyper_parameters"]["layer"] == 1
    assert known["tl_nla_about"] == {"site": "blocks.1.hook_resid_post"}
    assert known["ActivationDataModule"] == {"site": "blocks.1.hook_resid_post"}


def test_a_checkpoint_of_other_writes_is_refused(kinds, tmp_path):
    path = saved(DiffOracleTraining(oracle=make_oracle()), kinds["writes"], tmp_path / "one.ckpt")
    other = made(DiffDataModule, *kinds["writes"]._target, ("blocks.0.attn", "blocks.1.attn"), source=documents(6, 7),
                           positions_per_document=1, batch_size=2, heldout=0.3, skips=False, questions=0)  # fmt: skip
    with pytest.raises(InputError, match=r"written with data of sites \['blocks\.0\.attn\.head\.0'"):
        L.Trainer(**{**QUIET, "max_steps": 2}).fit(
            DiffOracleTraining(oracle=make_oracle()), datamodule=other, ckpt_path=path, weights_only=True
        )


def test_a_checkpoint_of_a_larger_model_is_refused(right, tmp_path):
    path = saved(VerbalizerWarmStart(nla=make("llama", "affine")), right, tmp_path / "one.ckpt")
    other = VerbalizerWarmStart(nla=make("llama", "constant"))
    with pytest.raises(InputError, match=r"other weights than this training has: 2 differ \('verbalizer\.injection"):
        L.Trainer(**QUIET).validate(other, datamodule=right, ckpt_path=path, weights_only=True)


def test_one_state_has_two_names():
    assert same_state("blocks.1.hook_resid_post", "blocks.2.hook_resid_pre")
    assert not same_state("blocks.1.hook_resid_post", "blocks.1.hook_resid_mid")
    assert not same_state("blocks.1", "blocks.1.hook_resid_post")


def test_what_a_checkpoint_does_not_tell_is_not_compared():
    check_checkpoint("data", {}, {"site": "blocks.1.hook_resid_post"})
    check_checkpoint("data", {"site": None}, {"site": "blocks.1.hook_resid_post"})
    with pytest.raises(InputError, match="of texts 'gold', this run has 'cat'"):
        check_checkpoint("data", {"texts": "gold"}, {"texts": "cat"})
    with pytest.raises(InputError, match=r"'b' is nothing there and \(2,\) here"):
        check_weights({"a": torch.ones(3)}, {"a": torch.ones(3), "b": torch.ones(2)})
