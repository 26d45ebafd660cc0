"""Every training in every precision of the Trainer: it works and starts at the loss of float32, or says what works."""

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from docs.studies.tiny.model import TargetConfig
from docs.studies.tiny.target import train_target
from docs.studies.tiny.tokenizer import build_tokenizer
from lightning_modules.base import TrainingModule
from lightning_modules.callbacks.reports import ContributionReportCallback, ShownConfig
from lightning_modules.callbacks.samples import ExplanationSamples
from lightning_modules.callbacks.saving import SaveNLA, SaveOracle
from lightning_modules.data.documents import DocumentDataModule
from lightning_modules.training.capture import ActivationCapture
from lightning_modules.training.contribution import ContributionDataModule, LayerContribution
from lightning_modules.training.diff import DiffDataModule, DiffNLATraining, DiffOracleTraining
from lightning_modules.training.diff_rewards import DiffNLAReinforcement
from lightning_modules.training.nla_training import NLATraining
from lightning_modules.training.source_training import SourceDataModule, SourceEncoderTraining
from lightning_modules.training.steering import SteeringPrompt, SteeringPrompts, SteeringSweep
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from lightning_modules.training.write_refinement import WriteRefinementTraining
from tests import zoo
from tests.lightning_modules.grouping import made
from tests.lightning_modules.rewarded import rewarded
from tests.lightning_modules.training.test_diff_rewards import Closed
from tests.lightning_modules.training.test_nla_training import FixedBackend
from tests.nla.test_generation import make
from tests.oracle.tiny import make_oracle
from tl_nla.data import Document
from tl_nla.data.shards import read_shard, shard_path
from tl_nla.errors import InputError
from tl_nla.metrics import FractionOfVarianceExplained
from tl_nla.metrics.norms import log_norm
from tl_nla.nla import NLA, RolloutConfig
from tl_nla.oracle import DiffOracle
from tl_nla.reports import ReportConfig, layer_contributions

PRECISIONS = ("32-true", "64-true", "bf16-true", "bf16-mixed", "16-mixed", "16-true")
CLOSE = {"32-true": 1e-6, "64-true": 1e-4, "bf16-true": 0.05, "bf16-mixed": 0.05, "16-mixed": 0.05, "16-true": 0.05}
QUIET = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False,
         "enable_model_summary": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}  # fmt: skip
ROLLOUTS = RolloutConfig(group=3, max_new_tokens=6)
WARM = {"verbalizer": VerbalizerWarmStart, "reconstructor": ReconstructorWarmStart}
KINDS = ("verbalizer", "reconstructor", "nla", "oracle", "diff_nla", "refinement", "rewards", "sources", "contribution")
pytestmark = [
    pytest.mark.filterwarnings("ignore:You passed `Trainer.*AMP with fp16 is not supported on CPU"),
    pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices"),
]


class Served(L.LightningDataModule):
    """The same rows for everything."""

    batch_size = 3

    def __init__(self, rows):
        super().__init__()
        self.rows, self.mean = rows, torch.zeros(zoo.D_MODEL)

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=self.batch_size)

    val_dataloader = test_dataloader = train_dataloader

    def heldout_rows(self, count):
        return torch.stack([row["acts"] for row in self.rows[:count]]), [row["texts"] for row in self.rows[:count]]


def documents(count, length):
    texts = [" ".join(f"w{i}" for i in zoo.tokens(1, length, seed=n)[0].tolist()) for n in range(count)]
    return [Document(f"d/{n}", text) for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def served(get_model):
    """Data of each kind of module, captured once."""
    model, tokenizer = get_model("bridge", "llama"), zoo.tokenizer()
    acts = torch.randn(6, zoo.D_MODEL, generator=torch.Generator().manual_seed(1))
    states = Served([{"acts": act, "texts": "abcdefgh"[: 1 + number]} for number, act in enumerate(acts)])
    few = {"positions_per_document": 1, "batch_size": 4, "heldout": 0.3}
    writes = made(DiffDataModule, model, tokenizer, ("heads",), source=documents(8, 7), skips=False, questions=0, **few)
    read = made(
        SourceDataModule,
        model,
        tokenizer,
        source=documents(12, 40),
        positions_per_document=8,
        batch_size=8,
        heldout=0.3,
    )
    sums = made(ContributionDataModule, model, tokenizer, source=documents(8, 7), **few)
    for data in (writes, read, sums):
        data.setup()
    names = {"sources": read, "contribution": sums, **dict.fromkeys(("verbalizer", "reconstructor", "nla"), states)}
    return {kind: names.get(kind, writes) for kind in KINDS}


def build(kind, get_model):
    torch.manual_seed(0)
    if kind in WARM:
        return WARM[kind](nla=make("llama", "affine"), learning_rate=1e-3)
    settings = {"learning_rate": 1e-3, "reconstructor_learning_rate": 1e-3, "kl_weight": 0.1, "rollouts": ROLLOUTS}
    if kind == "nla":
        pair = make("llama", "affine")
        return NLATraining(
            nla=pair, **rewarded(**{**settings, "rollouts": RolloutConfig(4, 6), "backend": FixedBackend()})
        )
    oracle = make_oracle()
    if kind == "rewards":
        return DiffNLAReinforcement(oracle=oracle, **rewarded(backend=Closed(), **settings))
    if kind == "contribution":
        return LayerContribution(oracle=oracle, target=get_model("bridge", "llama"), tokenizer=zoo.tokenizer())
    if kind == "refinement":
        return WriteRefinementTraining(oracle=oracle, hidden=8)
    if kind == "sources":
        return SourceEncoderTraining(oracle=oracle, hidden=8)
    return {"oracle": DiffOracleTraining, "diff_nla": DiffNLATraining}[kind](oracle=oracle)


class Losses(L.Callback):
    """What is logged as a loss, step by step."""

    def __init__(self):
        self.found = []

    def on_train_batch_end(self, trainer, *args):
        logged = trainer.callback_metrics
        self.found.append({name: float(value) for name, value in logged.items() if name.startswith("train/")})


def first_losses(module, data, precision):
    watch = Losses()
    trainer = L.Trainer(**QUIET, max_steps=2, limit_val_batches=1, precision=precision, callbacks=[watch])
    trainer.fit(module, datamodule=data)
    return watch.found, trainer


@pytest.fixture(scope="module")
def usual(served, get_model):
    """First losses and held-out scores in float32."""
    known = {}

    def of(kind):
        if kind not in known:
            losses, _ = first_losses(build(kind, get_model), served[kind], "32-true")
            scores = L.Trainer(**QUIET).validate(build(kind, get_model), datamodule=served[kind], verbose=False)
            known[kind] = losses[0], scores[0]
        return known[kind]

    return of


def names_of(kind):
    return ("train/reconstruction_loss", "train/kl") if kind in ("nla", "rewards") else ("train/loss",)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_training(kind, precision, served, usual, get_model):
    module = build(kind, get_model)
    trains_in = type(module).trains_in
    # On a CPU, Lightning takes bf16-mixed for 16-mixed.
    if precision not in trains_in and not (precision == "16-mixed" and "bf16-mixed" in trains_in):
        with pytest.raises(InputError, match=f"cannot be trained with precision='{precision}'.*'bf16-mixed'"):
            first_losses(module, served[kind], precision)
        return
    losses, trainer = first_losses(module, served[kind], precision)
    assert len(losses) == trainer.global_step == 2
    for name in names_of(kind):
        assert losses[0][name] == pytest.approx(usual(kind)[0][name], rel=CLOSE[precision], abs=CLOSE[precision])
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_scoring(kind, precision, served, usual, get_model):
    module, trainer = build(kind, get_model), L.Trainer(**QUIET, precision=precision)
    found = trainer.validate(module, datamodule=served[kind], verbose=False)[0]
    right = usual(kind)[1]
    assert found.keys() == right.keys()
    for name in ("val/loss", "val/fve", "val/kl"):
        if name in found and kind not in ("nla", "rewards"):  # one greedy token can change there, and all after it
            assert found[name] == pytest.approx(right[name], rel=2 * CLOSE[precision], abs=CLOSE[precision])


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "qwen2"])
@pytest.mark.parametrize("kind", ["affine", "additive"])
def test_families_and_injections_in_bfloat16(family, kind, served):
    data, losses = served["verbalizer"], {}
    for part in WARM:
        for precision in ("32-true", "bf16-true"):
            found, _ = first_losses(WARM[part](nla=make(family, kind)), data, precision)
            losses[precision] = found[0]["train/loss"]
        assert losses["bf16-true"] == pytest.approx(losses["32-true"], rel=0.05)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-true", torch.bfloat16), ("64-true", torch.float64)])
def test_only_weights_are_cast(precision, dtype, served, get_model):
    """A module is cast as a whole: rotary frequencies, usual magnitudes and sums of metrics have to be left out."""
    writer, reader = build("verbalizer", get_model), build("diff_nla", get_model)
    usual = log_norm(served["diff_nla"].train_writes.write).mean()
    for module, kind in ((writer, "verbalizer"), (reader, "diff_nla")):
        first_losses(module, served[kind], precision)
        assert {parameter.dtype for parameter in module.parameters()} == {dtype}
        buffers = {name: buffer.dtype for name, buffer in module.named_buffers() if buffer.is_floating_point()}
        assert any("inv_freq" in name for name in buffers)
        assert set(buffers.values()) == {torch.float32}
    assert torch.equal(reader.reconstructor.log_norm_mean, usual)
    assert isinstance(reader.fve, FractionOfVarianceExplained)
    assert reader.fve.count.dtype == reader.fve.errors.dtype == torch.float64


def test_casting_moves_and_keeps_gradients():
    class Part(TrainingModule):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(2, 2)
            self.register_buffer("fine", torch.full((1,), 1.001))

    part = Part()
    part.line(torch.ones(1, 2)).sum().backward()
    part.half()
    assert part.line.weight.dtype == part.line.weight.grad.dtype == torch.float16
    assert part.fine.dtype == torch.float32
    assert part.fine == torch.full((1,), 1.001)
    assert part.to("meta").fine.device.type == "meta"


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_callbacks_and_saved_parts(precision, served, get_model, tmp_path):
    model, tokenizer, data = get_model("bridge", "llama"), zoo.tokenizer(), served["oracle"]
    reports = ContributionReportCallback(
        ["w5 w9 w6"], 1, model, tokenizer, shown=ShownConfig(images=False),
        config=ReportConfig(explain={"max_new_tokens": 3}),
    )  # fmt: skip
    kept = {"logger": TensorBoardLogger(tmp_path / "logs"), "max_steps": 1, "limit_val_batches": 0}
    module = build("oracle", get_model)
    callbacks = [reports, SaveOracle(str(tmp_path / "oracle"))]
    L.Trainer(**{**QUIET, **kept}, precision=precision, callbacks=callbacks).fit(module, datamodule=data)
    (report,) = reports.reports.values()
    assert report.explained_by == "oracle"
    assert report.sum_of_parts(report.positions[-1]) == pytest.approx(report.totals[-1], abs=1e-3)
    again = DiffOracle.from_pretrained(tmp_path / "oracle")
    assert torch.equal(again.verbalizer.slots.bias, module.verbalizer.slots.bias.float())
    pair = build("verbalizer", get_model)
    callbacks = [ExplanationSamples(1, 2, 5), SaveNLA(str(tmp_path / "pair"))]
    trainer = L.Trainer(**{**QUIET, **kept}, precision=precision, callbacks=callbacks)
    trainer.fit(pair, datamodule=served["verbalizer"])
    loaded = NLA.from_pretrained(tmp_path / "pair" / "av", tmp_path / "pair" / "ar")
    assert torch.equal(loaded.verbalizer.injection.weight, pair.verbalizer.injection.weight.float())


@pytest.mark.parametrize("precision", [precision for precision in PRECISIONS if precision.endswith("true")])
def test_captures_are_the_same_in_every_precision(precision, get_model, tmp_path):
    """The target is no part of the module and stays as it was loaded."""
    model, data = get_model("bridge", "llama"), DocumentDataModule(documents(12, 9), documents_per_shard=3, heldout=0.3)
    acts = []
    for name, kind in (("usual", "32-true"), ("other", precision)):
        module = made(
            ActivationCapture, str(tmp_path / name), model, zoo.tokenizer(), "blocks.1.hook_resid_post",
            positions_per_document=2,
        )  # fmt: skip
        trainer = L.Trainer(**QUIET, precision=kind)
        trainer.predict(module, datamodule=data, return_predictions=False)
        acts.append(read_shard(shard_path(tmp_path / name, 0)).acts)
    torch.testing.assert_close(*acts)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_predictions(precision, get_model):
    module = build("contribution", get_model)
    trainer = L.Trainer(**QUIET, precision=precision)
    ((found,),) = trainer.predict(module, DataLoader([["w5 w9 w6"]], batch_size=None))
    usual = layer_contributions(get_model("bridge", "llama"), "w5 w9 w6", None, tokenizer=zoo.tokenizer()).to_dict()
    assert found["total"]["logit"] == pytest.approx(usual["total"]["logit"], abs=1e-4)
    sweep = SteeringSweep(new_tokens=3)
    prompts = SteeringPrompts([SteeringPrompt("Tom found a kite painted red. The kite was", "red->yellow")])
    ((run,),) = trainer.predict(sweep, datamodule=prompts)
    assert run["after"] != run["before"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_embedded_target(precision):
    tokenizer = build_tokenizer()
    shape = TargetConfig(d_model=32, d_mlp=48, n_layers=2, n_heads=2, n_key_value_heads=1, d_head=16)
    settings = {"target": shape, "enable_progress_bar": False, "precision": precision}
    if precision == "16-true":
        with pytest.raises(InputError, match="cannot be trained with precision='16-true'"):
            train_target(tokenizer, 2, **settings)
        return
    assert all(torch.isfinite(value).all() for value in train_target(tokenizer, 2, **settings).parameters())
