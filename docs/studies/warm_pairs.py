"""Warm-started pairs of the embedded world by seed and length, made once and kept for studies of faithfulness.

The pair of seed 0 at the shipped length is the shipped one and is not trained again.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel

from docs.studies.tiny.rebuild import STORED, RebuildConfig, capture, load_rebuilt, run_steps
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tl_nla.errors import InputError
from tl_nla.model.targets import Target
from tl_nla.nla import NLA
from tl_nla.nla.fresh import fresh_nla
from tl_nla.storyworld.tiny import WEIGHTS, embedded_grounding

SHIPPED = (0, RebuildConfig().verbalizer_steps)
"""Seed and steps of the pair in the package."""
PRECISIONS = ("highest", "high", "medium")


@dataclass
class WarmPairs:
    """Trains warm-started pairs on demand.

    Attributes:
        folder: keeps the pairs, one a seed and length.
        config: documents, positions and learning rate; its numbers of steps are not used.
        precision: of float32 matrix products in training, see ``torch.set_float32_matmul_precision``; ``"medium"``
            computes in bfloat16 where the processor can, three to four times as fast.
    """

    folder: Path
    config: RebuildConfig = field(default_factory=RebuildConfig)
    precision: str = "medium"
    _data: dict[int, ActivationDataModule] = field(default_factory=dict, repr=False)
    _target: Target | None = field(default=None, repr=False)

    @property
    def target(self) -> Target:
        """The embedded target."""
        if self._target is None:
            self._target = load_rebuilt(WEIGHTS / "target")
        return self._target

    def data(self, seed: int) -> ActivationDataModule:
        """Training and validation states of a seed with their written explanations."""
        if seed not in self._data:
            self._data[seed] = capture(self.target, self.config, seed, embedded_grounding())
        return self._data[seed]

    def path(self, seed: int, steps: int) -> Path:
        """Where a pair lies, or will lie, as ``av`` and ``ar``."""
        return WEIGHTS if (seed, steps) == SHIPPED else self.folder / f"seed_{seed}_steps_{steps}"

    def load(self, seed: int, steps: int) -> NLA:
        """The pair, trained first when it is not there; its weights are float32 and can be trained on.

        Args:
            seed: of the training stories and the order of rows.
            steps: of either part's warm start, 64 rows each; the learning rate falls to nothing over them.
        """
        folder = self.path(seed, steps)
        if not (folder / "ar" / "model.safetensors").is_file():
            self._train(seed, steps).save_pretrained(folder, STORED)
        return load_trainable(folder)

    def _train(self, seed: int, steps: int) -> NLA:
        data, rate = self.data(seed), self.config.learning_rate
        pair = with_plain_attention(fresh_nla(WEIGHTS / "target", self.config.layer, "affine"))
        with matmul_precision(self.precision):
            for kind in (ReconstructorWarmStart, VerbalizerWarmStart):
                module = kind(nla=pair, learning_rate=rate)
                run_steps(module, data, steps, seed, limit_val_batches=0, enable_progress_bar=False)
        pair.mean = data.mean
        return pair.eval()


def load_trainable(folder: Path) -> NLA:
    """A pair in float32 whose weights take gradients."""
    pair = with_plain_attention(NLA.from_pretrained(folder / "av", folder / "ar", dtype=torch.float32))
    for parameter in pair.parameters():
        parameter.requires_grad_(True)
    return pair


def with_plain_attention(pair: NLA) -> NLA:
    """The same pair with attention written out, which trains these small models 2.6 times as fast on a processor.

    PyTorch's fused attention spends two thirds of a training step on rows of fifty tokens there.
    """
    for part in (pair.verbalizer, pair.reconstructor):
        for module in part.modules():
            if isinstance(module, PreTrainedModel):
                module.set_attn_implementation("eager")
    return pair


@contextlib.contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Precision of float32 matrix products inside; put back afterwards.

    Raises:
        InputError: for another name than those of ``torch.set_float32_matmul_precision``.
    """
    if name not in PRECISIONS:
        raise InputError(f"precision {name!r} is none of {', '.join(PRECISIONS)}")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
