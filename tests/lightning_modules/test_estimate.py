"""Estimates beside what one step of the real trainings holds."""

from contextlib import nullcontext

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_modules.training.nla_training import NLATraining
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tests import zoo
from tests.lightning_modules.rewarded import rewarded
from tests.lightning_modules.training.test_nla_training import ROLLOUTS, WORDS, FixedBackend
from tests.nla.test_generation import make
from tl_nla.benchmark.dry_run import ADDED
from tl_nla.benchmark.estimate import Workload, estimate
from tl_nla.benchmark.peak_memory import PeakMemory
from tl_nla.errors import InputError
from tl_nla.nla.reference import LoraSettings

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning"),
]
TEXT = "jklmn ghi ab"
ROWS = 6
STATIC = 0.05
"""Weights, optimiser and gradients: they are the same tensors, but for steps of the optimiser and a learned map."""
ACTIVATIONS = 1.25
"""Activations, logits and gradients at the fullest moment."""
TAGS = 1.5
"""The same where the reconstructor is counted as reading the tags, which are most of a short text of bytes."""


def collate(rows):
    return {"acts": torch.stack([row["acts"] for row in rows]), "texts": [row["texts"] for row in rows]}


def loader(batch_size=ROWS):
    acts = torch.randn(ROWS, zoo.D_MODEL, generator=torch.Generator().manual_seed(3))
    return DataLoader([{"acts": act, "texts": TEXT} for act in acts], batch_size=batch_size, collate_fn=collate)


class Watch(L.Callback):
    """Bytes that are alive at the fullest moment of the step, beside weights and optimiser; sizes after it."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.memory = PeakMemory([*module.parameters(), *module.buffers()])
        self.memory.__enter__()

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.peak = self.memory.peak
        self.gradients = sum(p.grad.nbytes for p in module.parameters() if p.grad is not None)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.memory.__exit__(None, None, None)
        self.weights = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
        (optimizer,) = trainer.optimizers
        self.optimiser = sum(value.nbytes for state in optimizer.state.values() for value in state.values())


def watched(module, folder, batch_size=ROWS, precision="32-true"):
    watch = Watch()
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=1, enable_progress_bar=False, logger=False, precision=precision,
        enable_model_summary=False, default_root_dir=folder, enable_checkpointing=False, callbacks=[watch],
        limit_val_batches=0, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, loader(batch_size), loader(batch_size))
    return watch


def compare(found, watch, factor=ACTIVATIONS):
    for name in ("weights", "optimiser", "gradients"):
        assert getattr(found, name) == pytest.approx(getattr(watch, name), rel=STATIC), name
    assert 1 / ACTIVATIONS <= (found.activations + found.logits) / watch.peak <= factor


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_a_warm_start_of_the_verbalizer(family, precision, tmp_path, monkeypatch):
    # Estimates count fused attention, as it is on a GPU; on this CPU a step in bfloat16 would spell it out.
    monkeypatch.setattr("lightning_modules.training.warm_start.quick_attention", lambda module: nullcontext())
    nla = make(family, "affine")
    ids, _ = nla.verbalizer.encode_responses([TEXT])
    work = Workload(ROWS, ids.shape[1], len(nla.verbalizer.prompt.ids))
    found = estimate(nla.verbalizer.model.config, "verbalizer", work, precision=precision)
    compare(found, watched(VerbalizerWarmStart(nla=nla), tmp_path, precision=precision))
    assert found.total >= found.weights + found.optimiser + found.logits


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_warm_start_of_the_reconstructor(family, tmp_path):
    nla = make(family)
    tokens = nla.reconstructor.encode([TEXT])[0].shape[1]
    found = estimate(nla.verbalizer.model.config, "reconstructor", Workload(ROWS, tokens - ADDED, layer=1))
    compare(found, watched(ReconstructorWarmStart(nla=nla), tmp_path))


@pytest.mark.parametrize("rank", [None, 4])
def test_training_by_reward(rank, tmp_path):
    nla = make("llama", "affine")
    ids, _ = nla.verbalizer.encode_responses(list(WORDS))
    work = Workload(3, ids.shape[1], len(nla.verbalizer.prompt.ids), layer=1, group=ROLLOUTS.group)
    found = estimate(nla.verbalizer.model.config, "reward", work, rank=rank)
    lora = None if rank is None else LoraSettings(rank=rank)
    settings = rewarded(rollouts=ROLLOUTS, backend=FixedBackend([max(WORDS, key=len)] * 4), learning_rate=1e-3)
    module = NLATraining(nla=nla, lora=lora, **settings)
    copied = 0 if rank else sum(p.nbytes for p in module.verbalizer.parameters())
    watch = watched(module, tmp_path, 3)
    watch.weights += copied  # the frozen warm start is no part of the module
    watch.gradients = sum(p.nbytes for p in module.parameters() if p.requires_grad)
    compare(found, watch, TAGS)


def test_mixtures_of_experts_are_refused_in_a_line():
    from transformers import MixtralConfig

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=100, num_key_value_heads=2, num_local_experts=4, **small)
    with pytest.raises(InputError, match=r"MixtralConfig cannot be run without contents .*Mixtures of experts"):
        estimate(config, "verbalizer", Workload(batch_size=2, tokens=8, layer=1))
    assert estimate(config, "read", Workload(batch_size=2, tokens=8)).total > 0
