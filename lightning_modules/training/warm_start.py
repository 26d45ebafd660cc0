"""Warm starts: the verbalizer learns to write explanations, the reconstructor to read them."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from lightning_modules.processes import denominators
from lightning_modules.sharding import gathered
from lightning_modules.training.precision import quick_attention
from lightning_modules.training.schedules import adapter_optimizer, check_rates, run_length
from lightning_modules.training.trained_only import TrainedOnly
from tl_nla.errors import InputError
from tl_nla.metrics import FractionOfVarianceExplained, normalise
from tl_nla.metrics.norms import at_least_float32
from tl_nla.nla import NLA
from tl_nla.nla.slot_start import never_trained, start_slots
from tl_nla.paths import user_path

Injection = Literal["constant", "sqrt_d", "raw", "affine", "additive"]


def explanation_loss(
    logits: Float[Tensor, "n pos vocab"], ids: Tensor, mask: Tensor, count: Tensor | None = None
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the explanation's tokens in nats (Anthropic 2026, NLA paper, warm start).

    Args:
        logits: prediction of each response token, as :class:`tl_nla.nla.Verbalizer` gives them.
        ids: response token ids ``[n, pos]``.
        mask: true where a response token is real ``[n, pos]``.
        count: what the sum is divided by, see :func:`lightning_modules.processes.denominators`; the number of real
            tokens when ``None``.
    """
    losses = cross_entropy(at_least_float32(logits).flatten(0, 1), ids.flatten(), reduction="none")
    kept = mask.flatten().to(losses.dtype)
    return (losses * kept).sum() / (kept.sum() if count is None else count)


def reconstruction_loss(
    preds: Float[Tensor, "n d_model"], acts: Float[Tensor, "n d_model"], count: Tensor | None = None
) -> Float[Tensor, ""]:
    """Mean squared error per dimension of vectors normalised to sqrt(d_model): 0 to 4, equal to 2 (1 - cosine)."""
    preds = at_least_float32(preds)
    mean = mse_loss(normalise(preds), normalise(acts.to(preds)))
    return mean if count is None else mean * (len(acts) / count)


class _WarmStart(TrainedOnly):
    """What both warm starts share: the pair they train and one optimiser with a one-cycle schedule.

    A loss is the mean over the tokens (rows) of all processes, so that ``ddp`` is one process with the whole batch.
    Batches of the Trainer's ``accumulate_grad_batches`` weigh the same, however many tokens each has.
    """

    needs = "states"
    nla: NLA

    def __init__(self, nla: NLA, learning_rate: float, weight_decay: float) -> None:
        super().__init__()
        check_rates(learning_rate=learning_rate, weight_decay=weight_decay)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        object.__setattr__(self, "nla", nla)

    def data_site(self) -> str:
        """Output of the pair's layer."""
        return self.nla.site

    def data_width(self) -> int:
        """Size of the pair's vectors."""
        return self.nla.d_model

    def configure_optimizers(self) -> Any:
        """AdamW with a one-cycle schedule over the run (Smith 2018)."""
        rates = self.learning_rate, self.weight_decay
        return adapter_optimizer(self.named_parameters(), *rates, run_length(self.trainer))


def create_nla(model: str, layer: int, injection: Injection, injection_char: str | None = None) -> NLA:
    """The pair to train.

    Args:
        model: a folder with a pair (``av`` and ``ar``) to go on from, or what a fresh pair is made from: ``"tiny"``, a
            folder with a model, or a hub id.
        layer: block whose output a fresh pair explains; a saved pair knows its own.
        injection: how a vector enters a fresh verbalizer.
        injection_char: marker of a fresh pair; see :meth:`tl_nla.NLA.create`.

    Raises:
        InputError: when a saved pair is of another layer or has another marker.
    """
    from tl_nla.nla.fresh import fresh_nla

    folder = user_path(model)
    if not ((folder / "av").is_dir() and (folder / "ar").is_dir()):
        return fresh_nla(model, layer, injection, injection_char=injection_char)
    pair = NLA.from_pretrained(folder / "av", folder / "ar", dtype=torch.float32)
    if pair.layer != layer:
        raise InputError(f"the pair in {model!r} is of layer {pair.layer}, not {layer}; give layer {pair.layer}")
    own = pair.verbalizer.prompt.char
    if injection_char not in (None, own):
        raise InputError(f"the pair in {model!r} has the marker {own!r}; leave out injection_char")
    return pair


class VerbalizerWarmStart(_WarmStart):
    """Supervised training of the verbalizer on explanations (cross-entropy on the response only).

    Args:
        model: when ``nla`` is not given: a folder with a pair (``av``, ``ar``) to go on from, or what a fresh pair is
            made from: ``"tiny"``, a local folder or a hub id.
        layer: block whose output the states are.
        injection: how a vector enters the verbalizer.
        learning_rate: peak of the schedule.
        weight_decay: of AdamW.
        nla: the pair whose verbalizer is trained.
        injection_char: marker of a fresh pair, one token inside the prompt; chosen or added when ``None``.
    """

    def __init__(
        self, model: str = "tiny", layer: int = 2, injection: Injection = "affine", learning_rate: float = 1e-3,
        weight_decay: float = 0.01, nla: NLA | None = None, injection_char: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(nla or create_nla(model, layer, injection, injection_char), learning_rate, weight_decay)
        layer = self.nla.layer  # a pair that is given knows its own
        self.save_hyperparameters("model", "layer", "injection", "learning_rate", "weight_decay", "injection_char")
        self.verbalizer = self.nla.verbalizer.train()

    def setup(self, stage: str) -> None:
        """Check all texts, and give learned slots that were never trained their start (:mod:`tl_nla.nla.slot_start`).

        Raises:
            InputError: for a training text that cannot be taught, such as one with a control token.
        """
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        states: Any = getattr(data, "train_states", None)
        if stage != "fit" or states is None:
            return
        self.verbalizer.encode_responses(self._without_marker(states.explanations))
        if never_trained(self.verbalizer):
            start_slots(self.verbalizer, states.acts, states.contexts)

    def _without_marker(self, texts: Sequence[str]) -> list[str]:
        """Texts as the verbalizer could say them: a model's guess may be the very marker, which names nothing."""
        return [text.replace(self.verbalizer.prompt.char, "") for text in texts]

    def _loss(self, batch: dict[str, Any]) -> Tensor:
        ids, mask = self.verbalizer.encode_responses(self._without_marker(batch["texts"]))
        ids, mask = ids.to(self.device), mask.to(self.device)
        (count,) = denominators(mask.sum())
        return explanation_loss(self.verbalizer(batch["acts"], ids, mask), ids, mask, count)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch."""
        with quick_attention(self):
            loss = self._loss(batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["texts"]), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out loss, and the same with the vectors of other rows: their gap is what the vector tells."""
        size = len(batch["texts"])
        self.log("val/loss", self._loss(batch), prog_bar=True, batch_size=size, sync_dist=True)
        shuffled = {**batch, "acts": batch["acts"].roll(1, 0)}
        self.log("val/loss_shuffled", self._loss(shuffled), batch_size=size, sync_dist=True)

    test_step = validation_step

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[str]:
        """Greedy explanations."""
        with gathered(self.verbalizer):
            return self.verbalizer.generate(batch["acts"]).texts


class ReconstructorWarmStart(_WarmStart):
    """Supervised training of the reconstructor on explanations (squared error of normalised vectors).

    Args: as for :class:`VerbalizerWarmStart`.
    """

    def __init__(
        self, model: str = "tiny", layer: int = 2, injection: Injection = "affine", learning_rate: float = 1e-3,
        weight_decay: float = 0.01, nla: NLA | None = None, injection_char: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(nla or create_nla(model, layer, injection, injection_char), learning_rate, weight_decay)
        layer = self.nla.layer  # a pair that is given knows its own
        self.save_hyperparameters("model", "layer", "injection", "learning_rate", "weight_decay", "injection_char")
        self.reconstructor = self.nla.reconstructor.train()
        self.fve: FractionOfVarianceExplained | None = None

    def setup(self, stage: str) -> None:
        """Take the training-set mean from the data module."""
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        self.fve = FractionOfVarianceExplained(mean=None if data is None else data.mean)

    def forward(self, texts: list[str]) -> Float[Tensor, "n d_model"]:
        """Vectors that the reconstructor reads from explanations."""
        return self.reconstructor.read(texts)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch."""
        (count,) = denominators(torch.tensor(len(batch["acts"]), device=self.device))
        with quick_attention(self):
            loss = reconstruction_loss(self(batch["texts"]), batch["acts"], count)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["texts"]), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out FVE of the written explanations (the gold arm)."""
        if self.fve is not None:
            self.fve.update(self(batch["texts"]), batch["acts"])
            self.log("val/fve", self.fve, prog_bar=True, batch_size=len(batch["texts"]))

    test_step = validation_step

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Float[Tensor, "n d_model"]:
        """Vectors read back from the written explanations."""
        with gathered(self.reconstructor):
            return self.reconstructor.reconstruct(batch["texts"])
