"""The NLA after a short reinforcement learning on the states of another layer."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ExactResume, NLATraining
from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from tl_nla.data.progress import tell
from tl_nla.metrics import normalise
from tl_nla.nla.adapted_files import is_small, load_adapted, save_adapted
from tl_nla.nla.rollouts import RolloutConfig
from tl_nla.smollm2.nla import WEIGHTS

_BATCH, _RATES = 8, (1e-4, 5e-4)


def reinforced_nla(acts: Tensor, steps: int, folder: Path) -> Any:
    """The shipped pair, trained on by its own explanations of other states; a training that was cut off goes on.

    Args:
        acts: training states of the other layer.
        steps: of eight states, eight explanations each.
        folder: of the result, and of the checkpoints until there is one.
    """
    if not is_small(folder):
        L.seed_everything(0)
        nla = load_adapted(str(WEIGHTS))
        nla.mean = normalise(acts).mean(0)
        loader = DataLoader(
            TensorDataset(acts), _BATCH, shuffle=True, drop_last=True, collate_fn=_batch,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        training = NLATraining(
            nla=nla, rates=RateConfig(*_RATES, warmup_steps=5), policy=PolicyConfig(kl_weight=0.0),
            rollouts=RolloutConfig(group=8, max_new_tokens=32),
        )  # fmt: skip
        kept = ModelCheckpoint(folder / "checkpoints", every_n_train_steps=10, save_last=True)
        fit = L.Trainer(
            accelerator="cpu", precision="bf16-mixed", max_steps=steps, logger=False, enable_model_summary=False,
            enable_progress_bar=False, callbacks=[ExactResume(), kept, _Told()],
        )  # fmt: skip
        begun = folder / "checkpoints" / "last.ckpt"
        fit.fit(training, loader, ckpt_path=begun if begun.is_file() else None)
        save_adapted(nla, folder)
    return load_adapted(str(folder), dtype=torch.bfloat16).eval().requires_grad_(False)


class _Told(L.Callback):
    """The study's own bar hears of each step."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        tell("reinforcement learning", trainer.global_step, trainer.max_steps)


def _batch(rows: list[tuple[Tensor]]) -> dict[str, Any]:
    return {"acts": torch.stack([row[0] for row in rows]), "texts": [""] * len(rows)}
