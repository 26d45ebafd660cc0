"""The same short trainings in one process and in two.

Two processes are two forks of one that has imported everything, with the environment that a launcher would set.
Row i of a global batch has its own length of text, its own failures and its own rewards, so that a mean over the rows
of one process is not the mean over all.
"""

import os
import warnings
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger

from lightning_modules.data.resumable_loader import ResumableLoader
from lightning_modules.training.nla_training import NLATraining
from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tests import zoo
from tests.lightning_modules.forks import as_processes, wait
from tests.nla.test_generation import make
from tl_nla.nla.generation import Responses
from tl_nla.nla.rollouts import BuiltInBackend, RolloutConfig, token_logprobs
from tl_nla.nla.verbalizer import Generation

ROWS, BATCH, STEPS = 22, 8, 4
RATE = 2e-4
"""Adam moves a weight by up to this much a step whatever the size of its gradient: one of pure rounding also counts."""
KINDS = ("verbalizer", "reconstructor", "nla", "nla_accumulated", "nla_spoiled", "nla_sampled", "nla_small")
ACCUMULATED = ("nla_accumulated", "nla_small")
"""The second one also goes backward in micro-batches, with checkpointing."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class RowBackend:
    """Explanations that depend on the activation alone: any split of a batch gives each row the same ones."""

    exact = True

    def __init__(self, spoiled: bool = False) -> None:
        self.spoiled, self.calls = spoiled, 0

    def sample(self, verbalizer, acts, config, generator=None):
        self.calls += 1
        numbers = [int(1e4 * abs(float(act[0]))) for act in acts]
        texts = [_LETTERS[n % 7 : n % 7 + 1 + (3 * n + 5 * k) % 13] for n in numbers for k in range(config.group)]
        ids, mask = verbalizer.encode_responses(texts)
        rows = acts.repeat_interleave(config.group, 0)
        with torch.no_grad():
            logprobs = token_logprobs(verbalizer, rows, ids, mask, config.temperature)
        if self.spoiled and self.calls == 2 and (number := os.environ.get("LOCAL_RANK")) != "0":
            # In the second process only; one process holds its rows between those of the first.
            bad = torch.arange(len(acts)).repeat_interleave(config.group) % 2 == 1 if number is None else slice(None)
            logprobs[bad] = float("nan")
        extracted = torch.tensor([bool((n + k) % 5) for n in numbers for k in range(config.group)])
        return Generation(texts, extracted, Responses(ids, mask, logprobs, extracted))


class SampledBackend(BuiltInBackend):
    """Truly sampled tokens; since a random model closes no tags, what counts as extracted is up to the tokens."""

    def sample(self, verbalizer, acts, config, generator=None):
        found = super().sample(verbalizer, acts, config, generator)
        sums = (found.ids * found.mask).sum(1)
        texts = [_LETTERS[number % 7 : number % 7 + 1 + number % 11] for number in sums.tolist()]
        return Generation(texts, sums % 3 > 0, found.responses)


class Data(L.LightningDataModule):
    """Rows of which a batch of one process is spread over two."""

    def setup(self, stage=None):
        acts = torch.randn(ROWS, zoo.D_MODEL, generator=torch.Generator().manual_seed(3))
        self.rows = [{"acts": act, "texts": _LETTERS[: 1 + (5 * i) % 23]} for i, act in enumerate(acts)]
        self.mean = torch.zeros(zoo.D_MODEL)

    def train_dataloader(self):
        return ResumableLoader(self.rows, BATCH // self.trainer.world_size, seed=1, drop_last=True)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(self.rows, batch_size=ROWS // self.trainer.world_size)


def build(kind):
    pair = make("llama", "affine")
    if kind == "verbalizer":
        return VerbalizerWarmStart(nla=pair, learning_rate=RATE)
    if kind == "reconstructor":
        return ReconstructorWarmStart(nla=pair, learning_rate=RATE)
    spoiled = kind == "nla_spoiled"
    return NLATraining(
        nla=pair, rollouts=RolloutConfig(group=4, max_new_tokens=16), rates=RateConfig(RATE, RATE),
        policy=PolicyConfig(
            kl_weight=0.5, accumulate=2 if kind in ACCUMULATED else 1, updates=2 if spoiled else 1,
            backend=SampledBackend() if kind == "nla_sampled" else RowBackend(spoiled),
            micro_batch=5 if kind == "nla_small" else None, gradient_checkpointing=kind == "nla_small",
        ),
    )  # fmt: skip


def train(kind, folder, processes):
    """Weights and every logged number of a run."""
    torch.manual_seed(0)
    module = build(kind)
    logger = CSVLogger(folder, name=kind, version=str(processes))
    trainer = L.Trainer(
        accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto", logger=logger,
        max_steps=STEPS, max_epochs=-1, log_every_n_steps=1,
        gradient_clip_val=0.5 if module.automatic_optimization else None,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        limit_val_batches=0 if kind in ACCUMULATED else 1.0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, datamodule=Data())
    if trainer.is_global_zero:
        weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
        torch.save({"weights": weights, "skipped": getattr(module, "skipped", 0)}, folder / f"{kind}-{processes}.pt")


def all_kinds(folder, processes):
    for kind in KINDS:
        train(kind, folder, processes)


def main(folder: Path) -> bool:
    """Whether all trainings ended; for a process in which forks are safe."""
    torch.set_num_threads(1)
    # The forks come first: nothing has run in this process yet.
    children = as_processes(2, lambda: all_kinds(folder, 2))
    all_kinds(folder, 1)
    return wait(children)
