"""The encoder of a verbalizer's source slots as a Lightning training of its own."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchmetrics import MeanMetric

from lightning_modules.base import TrainingModule
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.served import captured
from lightning_modules.data.settings import CorpusConfig, ServingConfig, filled
from lightning_modules.training.diff import all_sites, create_oracle
from lightning_modules.training.schedules import check_rates, run_length, scheduled_optimizer
from lightning_modules.training.source_encoder import EncoderConfig, encoder_examples, new_encoder
from tl_nla.errors import InputError
from tl_nla.model.placement import Placement
from tl_nla.oracle import CaptureConfig, DiffOracle, SourceEncoder
from tl_nla.oracle.labels import expected_vocabulary
from tl_nla.oracle.source_examples import SourceExamples, source_examples

_NAMED = 3


class SourceRows(Dataset[dict[str, Tensor]]):
    """Rows of examples: state before, write, numbers of the words that were read."""

    def __init__(self, examples: SourceExamples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        found = self.examples
        return {"before": found.before[index].float(), "write": found.write[index].float(), "words": found.words[index]}


_CAPTURE_BATCH = 32


class SourceDataModule(ActivationDataModule):
    """Writes of heads and attentions with the distant words they read, labelled by one forward pass.

    Args:
        model: ``"tiny"``, a local folder, a hub id, or a TransformerLens model.
        tokenizer: of a model given as an object; otherwise it comes with the model.
        corpus: which texts are read, and what of them: 4,000 documents, 16 positions each (each gives a row for every
            head and attention), a twentieth held out.
        serving: batches, of 512 rows.
        placement: precision and devices of a model given by name, see :func:`tl_nla.load`.

    Attributes:
        words: the words that training writes read; known after ``setup``.
    """

    serves = "sources"
    collated: Any = None

    def __init__(
        self,
        model: Any = "tiny",
        tokenizer: Any = None,
        corpus: CorpusConfig | None = None,
        serving: ServingConfig | None = None,
        placement: Placement | None = None,
    ) -> None:
        corpus = filled(corpus or CorpusConfig(), documents=4000, positions_per_document=16, heldout=0.05)
        serving = filled(serving or ServingConfig(), batch_size=512)
        site = "blocks.0.hook_resid_pre"
        super().__init__(model, tokenizer, site, corpus, serving=serving, placement=placement)
        self.words: list[str] = []
        self.train_examples: SourceExamples | None = None
        self.heldout_examples: SourceExamples | None = None

    def setup(self, stage: str | None = None) -> None:
        """Label both splits once; held-out writes keep those of their words that occur in training.

        Raises:
            InputError: when a side of the split is empty, or no write read a distant word.
        """
        if self.train_examples is not None:
            return
        model, tokenizer = self.load_target()
        train, held = self.split(self.load_documents())
        sites = all_sites(model, ("heads", "attn"))
        vocabulary = expected_vocabulary(model, tokenizer, train, prepend_bos=self.prepend_bos)
        capture = CaptureConfig(
            self.positions_per_document, seed=self.seed, batch_size=_CAPTURE_BATCH, prepend_bos=self.prepend_bos
        )
        self.train_examples, self.words = encoder_examples(model, tokenizer, train, sites, vocabulary, capture)
        if not self.words:
            raise InputError("no write read a word more than 15 tokens back; give longer documents")
        found = source_examples(model, tokenizer, held, sites, capture, vocabulary)
        places = {word.casefold(): place for place, word in enumerate(self.words)}
        of_token = torch.tensor([*(places.get(text.casefold(), -1) for text in vocabulary.texts), -1])
        self.heldout_examples = SourceExamples(found.before, found.write, of_token[found.words])

    @property
    def width(self) -> int | None:
        """Size of the writes, once they are captured."""
        return None if self.train_examples is None else self.train_examples.write.shape[1]

    def about(self) -> dict[str, Any]:
        """What a run that goes on has to be given again: the encoder's words are numbered by it."""
        return {"words": self.words}

    def rows(self, train: bool) -> SourceRows:
        """Rows of examples."""
        return SourceRows(captured(self.train_examples if train else self.heldout_examples))


class SourceEncoderTraining(TrainingModule):
    """Fits the encoder of source slots and gives it to the oracle's verbalizer, which has to practise with it later.

    Args:
        model: the folder of an oracle, or what a fresh one is made from: ``"tiny"``, a local folder or a hub id.
        hidden: width of the encoder.
        learning_rate: peak of a one-cycle schedule.
        weight_decay: of AdamW.
        seed: of the encoder's first weights.
        oracle: the oracle itself.
    """

    needs = "sources"
    oracle: DiffOracle

    def __init__(
        self, model: str = "tiny", hidden: int = 768, learning_rate: float = 1e-3, weight_decay: float = 0.01,
        seed: int = 0, oracle: DiffOracle | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = EncoderConfig(hidden, seed=seed)
        check_rates(learning_rate=learning_rate, weight_decay=weight_decay)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.save_hyperparameters("model", "hidden", "learning_rate", "weight_decay", "seed")
        object.__setattr__(self, "oracle", oracle or create_oracle(model))
        self.encoder: SourceEncoder | None = None
        self.recall = MeanMetric()

    def data_width(self) -> int:
        """Size of the writes."""
        return self.oracle.d_model

    def setup(self, stage: str) -> None:
        """Make an encoder of the data module's words.

        Raises:
            InputError: without a :class:`SourceDataModule`.
        """
        super().setup(stage)
        if self.encoder is not None:
            return
        words = getattr(getattr(self.trainer, "datamodule", None), "words", None)
        if not words:
            raise InputError("an encoder is made of the words that writes read; fit it with a SourceDataModule")
        self.encoder = new_encoder(self.oracle.verbalizer, words, self.config)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of the words of one batch."""
        loss = captured(self.encoder).loss(batch["before"], batch["write"], batch["words"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["words"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Held-out loss, and the recall of read words among the three most probable ones."""
        encoder, size = captured(self.encoder), len(batch["words"])
        logits = encoder(batch["before"], batch["write"])
        best = logits.topk(min(_NAMED, logits.shape[1]), dim=1).indices
        self.log("val/loss", encoder.loss(batch["before"], batch["write"], batch["words"]), batch_size=size)
        read = torch.zeros_like(logits[:, :1], dtype=torch.bool).expand(-1, logits.shape[1] + 1).contiguous()
        places = torch.where(batch["words"] < 0, logits.shape[1], batch["words"])
        found = read.scatter(1, places, True)[:, :-1]
        self.recall.update(found.gather(1, best).sum() / found.sum().clamp_min(1), found.sum())
        self.log("val/recall_at_3", self.recall, prog_bar=True, batch_size=size)

    test_step = validation_step

    def on_train_end(self) -> None:
        """Give the encoder to the verbalizer; :class:`lightning_modules.SaveOracle` saves both."""
        self.oracle.verbalizer.use_encoder(captured(self.encoder))

    def configure_optimizers(self) -> Any:
        """AdamW with a one-cycle schedule."""
        rates = self.learning_rate, self.weight_decay
        return scheduled_optimizer(self.named_parameters(), "adamw", *rates, run_length(self.trainer))
