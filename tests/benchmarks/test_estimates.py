"""Estimates beside what is then measured, at more than toy size (``make bench``): trainings and reports within 20%."""

import warnings
from functools import partial

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_modules import DiffNLATraining, DiffOracleTraining, VerbalizerWarmStart
from tests.lightning_modules.test_estimate import Watch
from tl_nla.benchmark.estimate import Workload, estimate
from tl_nla.benchmark.peak_memory import PeakMemory
from tl_nla.benchmark.shapes import shaped
from tl_nla.data import Document
from tl_nla.data.explained import StateCapture, explain_states
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import load_target, model_folder
from tl_nla.nla.fresh import fresh_nla
from tl_nla.oracle import CaptureConfig, DiffOracle, capture_writes
from tl_nla.oracle.questions import EXPLAIN
from tl_nla.reports import layer_contributions

TEXT = "promotes kite, red, box, Tom; suppresses garden, blue, lamp, Lily"
ROWS = 64


def within(estimated, measured):
    assert estimated == pytest.approx(measured, rel=0.2), estimated / measured


def step(module, rows, folder):
    """Bytes of tensors at the fullest moment of one training step, weights and optimiser among them."""
    watch = Watch()
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=1, enable_progress_bar=False, logger=False,
        enable_model_summary=False, default_root_dir=folder, enable_checkpointing=False, callbacks=[watch],
        limit_val_batches=0, num_sanity_val_steps=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader(rows, batch_size=ROWS, collate_fn=together))
    return watch.weights + watch.optimiser + watch.peak


def together(rows):
    tensors = {
        name: torch.stack([row[name] for row in rows]) for name in rows[0] if isinstance(rows[0][name], torch.Tensor)
    }
    return {**{name: [row[name] for row in rows] for name in rows[0] if name not in tensors}, **tensors}


def vectors(width):
    return torch.randn(ROWS, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def oracle():
    folder = model_folder("tiny")
    return DiffOracle.create(load_causal_lm(folder, torch.float32), load_tokenizer(folder), blocks=2)


def test_a_step_of_the_oracles_verbalizer(oracle, tmp_path):
    ids, _ = oracle.verbalizer.encode_responses([TEXT])
    prompt = len(oracle.verbalizer.prompts[EXPLAIN].ids)
    found = estimate("tiny", "oracle", Workload(ROWS, ids.shape[1], prompt), optimizer="muon")
    rows = [{"before": one, "write": one, "questions": EXPLAIN, "texts": TEXT} for one in vectors(oracle.d_model)]
    within(found.total, step(DiffOracleTraining(oracle=oracle, optimizer="muon"), rows, tmp_path))


def test_a_step_of_the_oracles_reconstructor(oracle, tmp_path):
    tokens = oracle.reconstructor.encode([TEXT])[0].shape[1]
    found = estimate("tiny", "oracle-reconstructor", Workload(ROWS, tokens - 12, layer=1), optimizer="muon")
    rows = [{"before": one, "write": one, "questions": EXPLAIN, "texts": TEXT} for one in vectors(oracle.d_model)]
    within(found.total, step(DiffNLATraining(oracle=oracle, optimizer="muon"), rows, tmp_path))


def test_a_warm_start(tmp_path):
    nla = fresh_nla("tiny", 2, "affine")
    ids, _ = nla.verbalizer.encode_responses([TEXT])
    found = estimate("tiny", "verbalizer", Workload(ROWS, ids.shape[1], len(nla.verbalizer.prompt.ids)))
    rows = [{"acts": act, "texts": TEXT} for act in vectors(nla.d_model)]
    within(found.total, step(VerbalizerWarmStart(nla=nla), rows, tmp_path))


@pytest.mark.parametrize(("length", "positions"), [(256, 1), (1024, 1), (256, 16)])
def test_a_report(length, positions):
    model = shaped("smollm2").bridge
    known = [*model.parameters(), *model.buffers()]
    tokens = torch.randint(10, 20_000, (1, length), generator=torch.Generator().manual_seed(0))
    columns = list(range(length - positions, length))
    layer_contributions(model, tokens, positions=[0])
    with PeakMemory(known) as memory:
        kept = layer_contributions(model, tokens, positions=columns)
    del kept
    found = estimate(model.original_model.config, "report", Workload(1, length, positions=positions))
    within(found.total, found.weights + memory.peak)


DOCUMENTS = [Document(f"d/{number}", " ".join(["Tom found a kite painted red."] * 20)) for number in range(200)]


@pytest.fixture(scope="module")
def target():
    return load_target("tiny")


def captured(target, task, run):
    """What is estimated for a capture, as a multiple of what it holds."""
    known = [*target.model.parameters(), *target.model.buffers()]
    length = len(target.tokenizer(DOCUMENTS[0].text)["input_ids"])
    with PeakMemory(known) as memory:
        kept = run()
    del kept
    found = estimate("tiny", task, Workload(tokens=length, documents=200, positions=5))
    return found.total / (found.weights + memory.peak)


def test_a_capture_of_states(target):
    site = "blocks.1.hook_resid_post"
    run = partial(explain_states, target.model, target.tokenizer, DOCUMENTS, site, 5, how=StateCapture())
    assert captured(target, "capture-states", run) == pytest.approx(1, abs=0.2)


def test_a_capture_of_writes(target):
    model = target.model
    sites = [f"blocks.{layer}.{part}" for layer in range(int(model.cfg.n_layers))
             for part in [*(f"attn.head.{head}" for head in range(int(model.cfg.n_heads))), "attn", "mlp"]]  # fmt: skip
    sites += [f"blocks.{layer}" for layer in range(int(model.cfg.n_layers))]
    run = partial(capture_writes, model, target.tokenizer, DOCUMENTS, sites, CaptureConfig(5, skips=False))
    assert captured(target, "capture-writes", run) == pytest.approx(1, abs=0.2)
