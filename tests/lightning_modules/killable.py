"""A toy training that is killed at random moments, continued, and compared with one that was left alone.

Run as ``python tests/lightning_modules/killable.py FOLDER KILLS WORKERS``; prints one JSON line. Every run is a fork of
one process that has imported everything already, killed by SIGKILL after a random time since its first batch.
"""

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules.resumable_loader import ResumableLoader
from lightning_modules.resume import ExactResume

STEPS = 16


class Toy(L.LightningModule):
    """Dropout, Adam moments, a schedule, and random numbers drawn in validation."""

    def __init__(self, started: Path | None = None, pause: float = 0.0) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
        self.started, self.pause = started, pause

    def training_step(self, batch, batch_idx):
        if self.started is not None:
            self.started.touch()
        time.sleep(self.pause)
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


def rows():
    return list(torch.randn(38, 4, generator=torch.Generator().manual_seed(1)))


def train(folder, workers=0, started=None, pause=0.0, ckpt_path="last", **settings):
    """Two epochs and a bit, three batches a step, a checkpoint a step, a validation every seven batches."""
    torch.manual_seed(0)
    random.seed(0)
    module = Toy(started, pause)
    callbacks = [ExactResume(), ModelCheckpoint(folder, every_n_train_steps=1, save_last=True),
                 *settings.pop("callbacks", [])]  # fmt: skip
    trainer = L.Trainer(
        max_steps=STEPS, accumulate_grad_batches=3, val_check_interval=7, accelerator="cpu", logger=False,
        callbacks=callbacks, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1, **settings,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaders = (
            ResumableLoader(rows(), batch_size=2, seed=5, num_workers=workers),
            torch.utils.data.DataLoader(rows()),
        )
        trainer.fit(module, *loaders, ckpt_path=ckpt_path, weights_only=True)
    return module


def in_a_fork(work) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def killed(folder: Path, workers: int, chance: random.Random, longest: float) -> bool:
    """Start or go on with the run and kill it after a random time; false when it ended before."""
    started = folder / "started"
    started.unlink(missing_ok=True)
    child = in_a_fork(lambda: train(folder, workers, started, 0.004))
    while not started.exists():
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return False
        time.sleep(0.001)
    time.sleep(chance.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def reached(folder: Path) -> int:
    last = folder / "last.ckpt"
    return torch.load(last, weights_only=True)["global_step"] if last.exists() else 0


def main(folder: Path, kills: int, workers: int) -> None:
    torch.set_num_threads(1)
    weights = folder / "weights.pt"

    def whole(into: Path) -> None:
        torch.save(train(into, workers).state_dict(), weights)

    def run(into: Path) -> dict:
        child = in_a_fork(lambda: whole(into))
        if os.waitpid(child, 0)[1]:
            raise SystemExit("a run failed")
        return torch.load(weights, weights_only=True)

    begin = time.monotonic()
    expected = run(folder / "whole")
    longest = 1.2 * (time.monotonic() - begin)
    chance, equal, steps, died, runs = random.Random(0), [], [], 0, 0
    while died < kills:
        here = folder / f"run{runs}"
        here.mkdir()
        runs += 1
        for _ in range(5):
            died += killed(here, workers, chance, longest / 3)
            steps.append(reached(here))
        found = run(here)
        equal.append(all(torch.equal(found[name], value) for name, value in expected.items()))
    sys.stdout.write(json.dumps({"kills": died, "runs": runs, "equal": equal, "steps": steps}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
