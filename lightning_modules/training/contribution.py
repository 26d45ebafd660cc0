"""Training the words of every write together, so that what they sum to gives the model's output back."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_modules.base import default_float32
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.served import captured
from lightning_modules.data.settings import CorpusConfig, ServingConfig, filled
from lightning_modules.training.diff import OracleTraining
from lightning_modules.training.schedules import check_rates, known_optimizer
from tl_nla.amounts import check_number
from tl_nla.benchmark.words_only import (
    WrittenResiduals,
    capture_residuals,
    context_texts,
    divergence,
    output_logits,
    rebuild,
)
from tl_nla.data.progress import progress_bar
from tl_nla.errors import unknown
from tl_nla.metrics import normalise
from tl_nla.metrics.norms import at_least_float32, log_norm
from tl_nla.model.placement import Placement
from tl_nla.oracle import CaptureConfig, DiffOracle, WriteReconstructor
from tl_nla.oracle.labels import expected_vocabulary
from tl_nla.reports import layer_contributions

TEXTS = ("gold", "cat")


class ResidualTexts(Dataset[dict[str, Any]]):
    """Positions with all their writes and a text for each write."""

    def __init__(self, residuals: WrittenResiduals, texts: list[list[str]]) -> None:
        self.residuals, self.texts = residuals, texts

    def __len__(self) -> int:
        return len(self.residuals)

    def __getitem__(self, index: int) -> dict[str, Any]:
        found = self.residuals
        exact = found.embed[index] + found.rest[index]
        return {"exact": exact, "writes": found.writes[index], "texts": self.texts[index]}


def collate_residuals(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: vectors stacked, texts as lists."""
    batch: dict[str, Any] = {name: torch.stack([item[name] for item in items]) for name in ("exact", "writes")}
    return {**batch, "texts": [item["texts"] for item in items]}


class ContributionDataModule(ActivationDataModule):
    """Captures every write of drawn positions, with its label and with raw context of the same length.

    Args:
        model: ``"tiny"``, a local folder, a hub id, or a TransformerLens model.
        tokenizer: of a model given as an object.
        corpus: which texts are read, and what of them: 1,000 documents, four positions each, a tenth held out.
        texts: ``"gold"`` (labels) or ``"cat"`` (raw context), what is served.
        serving: batches, of 8 positions; each has a text for every head and MLP.
        placement: precision and devices of a model given by name, see :func:`tl_nla.load`.
    """

    serves = "residuals"
    collated: Any = staticmethod(collate_residuals)

    def __init__(
        self,
        model: Any = "tiny",
        tokenizer: Any = None,
        corpus: CorpusConfig | None = None,
        texts: str = "gold",
        serving: ServingConfig | None = None,
        placement: Placement | None = None,
    ) -> None:
        corpus = filled(corpus or CorpusConfig(), documents=1000, positions_per_document=4)
        serving = filled(serving or ServingConfig(), batch_size=8)
        site = "blocks.0.hook_resid_pre"
        super().__init__(model, tokenizer, site, corpus, serving=serving, placement=placement)
        if texts not in TEXTS:
            raise unknown("kind of texts", texts, TEXTS)
        self.kind = texts
        self.capture = CaptureConfig(
            self.positions_per_document, skips=False, seed=self.seed, prepend_bos=self.prepend_bos
        )
        self.train_residuals: WrittenResiduals | None = None
        self.heldout_residuals: WrittenResiduals | None = None

    def setup(self, stage: str | None = None) -> None:
        """Capture both splits once; strengths are told against the training writes."""
        if self.train_residuals is not None:
            return
        with progress_bar():
            self._capture()

    def _capture(self) -> None:
        model, tokenizer = self.load_target()
        train, held = self.split(self.load_documents())
        named = expected_vocabulary(model, tokenizer, train, prepend_bos=self.capture.prepend_bos)
        self.train_residuals, self.reference = capture_residuals(model, tokenizer, train, self.capture, None, named)
        self.heldout_residuals, _ = capture_residuals(model, tokenizer, held, self.capture, self.reference, named)
        self.train_texts = self.texts_of(self.train_residuals, train, model, tokenizer)
        self.heldout_texts = self.texts_of(self.heldout_residuals, held, model, tokenizer)
        self.train_documents, self.heldout_documents = train, held

    @property
    def width(self) -> int | None:
        """Size of the writes, once they are captured."""
        return None if self.train_residuals is None else self.train_residuals.writes.shape[-1]

    def about(self) -> dict[str, Any]:
        """What a run that goes on has to be given again."""
        return {"texts": self.kind}

    def texts_of(self, residuals: WrittenResiduals, documents: Any, model: Any, tokenizer: Any) -> list[list[str]]:
        """The texts of the kind that is served."""
        if self.kind == "gold":
            return residuals.texts
        return context_texts(tokenizer, documents, residuals, int(model.cfg.n_ctx), model, self.prepend_bos)

    def rows(self, train: bool) -> ResidualTexts:
        """Positions with their writes and texts."""
        if train:
            return ResidualTexts(captured(self.train_residuals), self.train_texts)
        return ResidualTexts(captured(self.heldout_residuals), self.heldout_texts)


@dataclass(frozen=True)
class FittingConfig:
    """How a reconstructor is fitted to contributions.

    Attributes:
        learning_rate: peak of the schedule.
        weight_decay: of the optimiser.
        optimizer: ``"adamw"``, or ``"muon"`` (learning rate about 0.01), which trains small models in fewer steps.
        sum_weight: weight of the KL of the sum.

    Raises:
        InputError: for an unknown optimiser, or a number out of range.
    """

    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    optimizer: str = "adamw"
    sum_weight: float = 0.1

    def __post_init__(self) -> None:
        known_optimizer(self.optimizer)
        check_rates(learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        check_number("sum_weight", self.sum_weight, 0.0)


class LayerContribution(OracleTraining):
    """Contributions in words: ``fit`` trains the reconstructor, ``validate`` and ``test`` measure what words recover.

    The loss has two parts: the error of every single write (direction and size), and, weighted by ``sum_weight``, the
    KL between the model's prediction and the one from the sum of all rebuilt writes. ``predict`` makes contribution
    reports of prompts.

    Args:
        model: what the oracle is made from when none is given, and whose output is rebuilt.
        fitting: learning rate, optimiser and weight of the sum.
        oracle: the diff oracle whose reconstructor is trained.
        target: the TransformerLens model, when ``model`` names none.
        tokenizer: of ``target``, for ``predict``.
        prepend_bos: whether prompts of ``predict`` get a begin token, see :class:`tl_nla.model.text.TextEncoder`.
    """

    needs = "residuals"

    def __init__(
        self,
        model: str = "tiny",
        fitting: FittingConfig | None = None,
        oracle: DiffOracle | None = None,
        target: Any = None,
        tokenizer: Any = None,
        prepend_bos: bool | None = None,
    ) -> None:
        how = fitting or FittingConfig()
        super().__init__(oracle, model, how.learning_rate, how.weight_decay, how.optimizer)
        self.fitting, self.prepend_bos = how, prepend_bos
        self.save_hyperparameters({"model": model, **asdict(how)})
        # Neither the oracle nor the model in question are submodules: checkpoints hold the reconstructor alone.
        object.__setattr__(self, "_target", (target, tokenizer, model))
        self.reconstructor: WriteReconstructor = self.oracle.reconstructor

    def target(self) -> tuple[Any, Any]:
        """The model whose output is rebuilt, with its tokenizer; loaded when first needed."""
        stored: Any = self._target
        target, tokenizer, name = stored
        if target is None:
            from tl_nla.model.targets import load_target

            loaded = load_target(name)
            target, tokenizer = loaded.model, loaded.tokenizer
            object.__setattr__(self, "_target", (target, tokenizer, name))
        return target, tokenizer

    def seen(self, data: Any) -> tuple[Tensor, Tensor] | None:
        """States and writes of all positions and sites."""
        found = getattr(data, "train_residuals", None)
        return None if found is None else (found.before.flatten(0, 1), found.writes.flatten(0, 1))

    def setup(self, stage: str) -> None:
        """Usual magnitudes from the training writes, unless the oracle knows some already."""
        super().setup(stage)
        self.reconstructor.train(stage == "fit")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Error of the writes, and KL of their sum."""
        size = len(batch["texts"])
        texts = [text for row in batch["texts"] for text in row]
        exact, writes = _vectors(batch)
        rebuilt, write_loss = self._rebuilt(texts, writes.flatten(0, 1))
        kl = self._divergence(exact, writes, rebuilt.view(writes.shape)).mean()
        loss = write_loss + self.fitting.sum_weight * kl
        self.log_dict({"train/loss": loss, "train/write_loss": write_loss, "train/kl": kl}, batch_size=size)
        return loss

    def _rebuilt(self, texts: list[str], writes: Tensor) -> tuple[Tensor, Tensor]:
        """Writes in model units with gradients, and the error of their directions and sizes."""
        reconstructor = self.reconstructor
        ids, mask = reconstructor.encode(texts)
        direction, size = reconstructor(ids.to(self.device), mask.to(self.device))
        wanted = ((log_norm(writes) - reconstructor.log_norm_mean) / reconstructor.log_norm_std).clamp(-4, 4)
        loss = (normalise(direction) - normalise(writes)).square().mean() + (size - wanted).square().mean()
        norm = (reconstructor.log_norm_mean + reconstructor.log_norm_std * size.clamp(-4, 4)).exp()
        return normalise(direction) / direction.shape[-1] ** 0.5 * norm[:, None], loss

    def _divergence(self, exact: Tensor, writes: Tensor, rebuilt: Tensor) -> Tensor:
        model, _ = self.target()
        with torch.no_grad():
            clean = output_logits(model, exact + writes.sum(1))
        return divergence(clean, output_logits(model, exact + rebuilt.sum(1)))

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out KL that the words leave, and how often the likeliest token stays."""
        self._measure(batch, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """As in validation."""
        self._measure(batch, "test")

    def _measure(self, batch: dict[str, Any], stage: str) -> None:
        size, model = len(batch["texts"]), self.target()[0]
        exact, writes = _vectors(batch)
        rebuilt = rebuild(self.reconstructor, batch["texts"]).to(writes)
        clean = output_logits(model, exact + writes.sum(1))
        told = output_logits(model, exact + rebuilt.sum(1))
        same = (clean.argmax(-1) == told.argmax(-1)).float().mean()
        self.log(f"{stage}/kl", divergence(clean, told).mean(), prog_bar=True, batch_size=size, sync_dist=True)
        self.log(f"{stage}/top1", same, prog_bar=True, batch_size=size, sync_dist=True)

    @default_float32()
    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Contribution reports of a list of prompts, told by the oracle when it has been trained to, else by labels.

        They come as the dictionaries that ``ContributionReport.from_dict`` reads: Lightning moves what it collects to
        the CPU piece by piece, which frozen objects refuse.
        """
        model, tokenizer = self.target()
        oracle = self.oracle if self.oracle.strength is not None else None
        settings: dict[str, Any] = {"tokenizer": tokenizer, "prepend_bos": self.prepend_bos}
        return [layer_contributions(model, prompt, oracle, **settings).to_dict() for prompt in batch]


def _vectors(batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Embeddings and the rest, and writes: their sums lose what they are compared for in half precision."""
    return at_least_float32(batch["exact"]), at_least_float32(batch["writes"])
