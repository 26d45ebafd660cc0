"""Trainings that are killed at random moments, continued, and compared with one that was left alone.

The kind of training is ``toy``, or one of the real modules on a random tiny Llama: ``verbalizer``, ``reconstructor``,
``nla``, ``oracle``, ``diff_nla`` (the last two with the rows of a real ``DiffDataModule``). Every run is a fork of
one process that has imported everything already, killed by SIGKILL after a random time since its first batch.
"""

import functools
import random
import time
import warnings
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules.callbacks.resume import ExactResume
from lightning_modules.data.resumable_loader import ResumableLoader
from lightning_modules.training.diff import DiffDataModule, DiffNLATraining, DiffOracleTraining
from lightning_modules.training.nla_training import NLATraining
from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tests import zoo
from tests.lightning_modules.forks import in_a_fork, kill, wait
from tests.lightning_modules.grouping import made
from tests.nla.test_generation import make
from tests.oracle.tiny import make_oracle
from tl_nla.data import Document
from tl_nla.nla import RolloutConfig

STEPS, ACCUMULATED = 16, 3
DIFF = {"oracle": DiffOracleTraining, "diff_nla": DiffNLATraining}


class Toy(L.LightningModule):
    """Dropout, Adam moments, a schedule, and random numbers drawn in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean() + 0.1 * random.random() * self.net[0].weight.sum()

    def validation_step(self, batch, batch_idx):
        torch.rand(3)
        random.random()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.9), "interval": "step"},
        }


class Begun(L.Callback):
    """Tells that the first batch came, and slows the rest down."""

    def __init__(self, started: Path | None, pause: float) -> None:
        self.started, self.pause = started, pause

    def on_train_batch_start(self, *args):
        if self.started is not None:
            self.started.touch()
        time.sleep(self.pause)


class EveryBatch(L.Callback):
    """A checkpoint after every batch, so that most are inside an accumulation."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"

    def on_train_batch_end(self, trainer, *args):
        trainer.save_checkpoint(self.path)


def rows():
    return list(torch.randn(38, 4, generator=torch.Generator().manual_seed(1)))


def explained():
    acts = torch.randn(38, zoo.D_MODEL, generator=torch.Generator().manual_seed(1))
    return [{"acts": act, "texts": "abcdefghijklm"[: 1 + (5 * number) % 12]} for number, act in enumerate(acts)]


@functools.cache
def writes():
    """Labelled writes of a random Llama, captured once before the forks."""
    texts = [" ".join(f"w{i}" for i in zoo.tokens(1, 8, seed=number)[0].tolist()) for number in range(8)]
    documents = [Document(f"d/{number}", text) for number, text in enumerate(texts)]
    data = made(
        DiffDataModule,
        zoo.bridge("llama"),
        zoo.tokenizer(),
        ("blocks.1.attn.head.1", "blocks.1.mlp"),
        source=documents,
        positions_per_document=2,
        batch_size=2,
        heldout=0.3,
        swap_share=0.5,
        seed=5,
    )
    data.setup()
    return data


def build(kind):
    if kind == "toy":
        return Toy()
    if kind in DIFF:
        return DIFF[kind](oracle=make_oracle())
    pair = make("llama", "affine")
    pair.mean = torch.zeros(zoo.D_MODEL)
    if kind == "nla":
        return NLATraining(nla=pair, rates=RateConfig(1e-3, 1e-3), policy=PolicyConfig(0.1, accumulate=ACCUMULATED),
                           rollouts=RolloutConfig(group=3, max_new_tokens=6))  # fmt: skip
    return {"verbalizer": VerbalizerWarmStart, "reconstructor": ReconstructorWarmStart}[kind](nla=pair)


def train(folder, workers=0, started=None, pause=0.0, ckpt_path="last", kind="toy", **settings):
    """Two epochs and a bit, three batches a step, a validation every seven batches.

    A checkpoint a step, or a batch with the real modules.
    """
    torch.manual_seed(0)
    random.seed(0)
    module = build(kind)
    toy = kind == "toy"
    saving = [ModelCheckpoint(folder, every_n_train_steps=1, save_last=True)]
    if not toy:
        saving = [ModelCheckpoint(folder, every_n_train_steps=10**6), EveryBatch(Path(folder))]
    callbacks = [ExactResume(), Begun(started, pause), *saving, *settings.pop("callbacks", [])]
    trainer = L.Trainer(
        max_steps=STEPS, accumulate_grad_batches=ACCUMULATED if module.automatic_optimization else 1,
        val_check_interval=7, accelerator="cpu", devices=1, logger=False, callbacks=callbacks,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1,
        limit_val_batches=1.0 if toy else 2, **settings,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, *loaders(kind, workers), ckpt_path=ckpt_path, weights_only=True)
    return module


def loaders(kind, workers):
    """Of training and validation."""
    if kind in DIFF:
        return writes().train_dataloader(), writes().val_dataloader()
    data = rows() if kind == "toy" else explained()
    served = ResumableLoader(data, batch_size=2, seed=5, num_workers=workers)
    return served, torch.utils.data.DataLoader(data, batch_size=1 if kind == "toy" else 2)


def reached(folder: Path) -> tuple[int, bool]:
    """Batches before the checkpoint, and whether it holds gradients of an unfinished accumulation."""
    last = folder / "last.ckpt"
    if not last.exists():
        return 0, False
    state = torch.load(last, weights_only=True)["exact_resume"]
    return state["batches"], bool(state["gradients"])


def main(folder: Path, kills: int, workers: int, kind: str = "toy") -> dict:
    """What became of so many kills; for a process in which forks are safe."""
    torch.set_num_threads(1)
    weights = folder / "weights.pt"
    if kind in DIFF:
        writes()

    def whole(into: Path) -> None:
        torch.save(train(into, workers, kind=kind).state_dict(), weights)

    def run(into: Path) -> dict:
        if not wait([in_a_fork(lambda: whole(into))]):
            raise SystemExit("a run failed")
        return torch.load(weights, weights_only=True)

    begin = time.monotonic()
    expected = run(folder / "whole")
    longest = 0.4 * (time.monotonic() - begin)
    chance, equal, moments, died, runs = random.Random(0), [], [], 0, 0
    while died < kills:
        here, started = folder / f"run{runs}", folder / f"started{runs}"
        here.mkdir()
        runs += 1
        for _ in range(min(5, kills - died)):
            started.unlink(missing_ok=True)
            slow = 0.004 if kind == "toy" else 0.0
            work = in_a_fork(lambda into=here, at=started: train(into, workers, at, slow, kind=kind))  # noqa: B023
            died += kill([work], started, chance.uniform(0, longest))
            moments.append(reached(here))
        found = run(here)
        equal.append(all(torch.equal(found[name], value) for name, value in expected.items()))
    return {"kind": kind, "workers": workers, "kills": died, "runs": runs, "equal": equal,
              "batches": [batch for batch, _ in moments], "inside": sum(inside for _, inside in moments)}  # fmt: skip
