"""Short trainings with weights shared out over two processes, and their checkpoints."""

import traceback
import warnings
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lightning_modules import ExactResume, SaveNLA
from lightning_modules.sharding import NAME, plain_weights
from tests.lightning_modules.forks import as_processes, wait
from tests.lightning_modules.two_processes import STEPS, Data, build

KINDS = ("verbalizer", "nla_small")


def run(kind, folder, processes, name, resumed=None):
    """Train, save whole weights and, in two processes, shares of a checkpoint."""
    torch.manual_seed(0)
    module = build(kind)
    callbacks = [ExactResume(), SaveNLA(folder / f"{name}-pair")]
    if name == "verbalizer-2":
        callbacks.append(ModelCheckpoint(folder / "steps", save_top_k=-1, every_n_train_steps=2))
    trainer = L.Trainer(
        accelerator="cpu", devices=processes, strategy=NAME if processes > 1 else "auto", max_steps=STEPS,
        max_epochs=-1, log_every_n_steps=1, logger=CSVLogger(folder, name=name, version="0"),
        gradient_clip_val=None, callbacks=callbacks, enable_progress_bar=False,
        enable_checkpointing=name == "verbalizer-2",
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0 if kind == "nla_small" else 1.0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, datamodule=Data(), ckpt_path=resumed, weights_only=True if resumed else None)
    held = [
        (weight.to_local().numel(), weight.numel()) for weight in module.parameters() if hasattr(weight, "to_local")
    ]
    with plain_weights(module):
        weights = {name: value.detach().clone() for name, value in module.named_parameters()}
        if trainer.is_global_zero:
            torch.save({"weights": weights, "held": held}, folder / f"{name}.pt")


def told(folder):
    try:
        both(folder)
    except BaseException:
        traceback.print_exc()  # a fork ends without a word
        raise


def both(folder):
    for kind in KINDS:
        run(kind, folder, 2, f"{kind}-2")
    (half,) = (folder / "steps").glob("*step=2.ckpt")
    run("verbalizer", folder, 2, "resumed", resumed=half)


def main(folder: Path) -> bool:
    """Whether all trainings ended; for a process in which forks are safe."""
    torch.set_num_threads(1)
    children = as_processes(2, lambda: told(folder))
    for kind in KINDS:
        run(kind, folder, 1, f"{kind}-1")
    return wait(children)
