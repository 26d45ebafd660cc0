"""Training of diff oracles: writes with their labels as data, the verbalizer, and the reconstructor of writes."""

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.base import TrainingModule
from lightning_modules.data.activations import ActivationDataModule, brought
from lightning_modules.data.asked_writes import AskedConfig
from lightning_modules.data.captured import ShardSampler
from lightning_modules.data.served import captured
from lightning_modules.data.settings import CorpusConfig, ServingConfig, WordsConfig, filled
from lightning_modules.data.streamed_writes import StreamedWriteTexts
from lightning_modules.data.write_texts import WriteTexts, collate_writes
from lightning_modules.processes import rank, shared_captures
from lightning_modules.training.schedules import check_rates, known_optimizer, run_length, scheduled_optimizer
from tl_nla.data import Document
from tl_nla.data.progress import progress_bar
from tl_nla.data.shards import begin_capture
from tl_nla.errors import InputError, unknown
from tl_nla.metrics import FractionOfVarianceExplained, normalise
from tl_nla.model.placement import Placement
from tl_nla.model.sites import Site
from tl_nla.oracle import CaptureConfig, DiffOracle, LabelledWrites, WriteReconstructor, WriteVerbalizer, capture_writes
from tl_nla.oracle.labels import expected_vocabulary
from tl_nla.oracle.oracle import SIDECAR
from tl_nla.oracle.policy import side_by_side
from tl_nla.oracle.prompts import oracle_marker
from tl_nla.oracle.questions import EXPLAIN
from tl_nla.oracle.write_shards import keep_writes, sampled_writes

GROUPS = ("heads", "attn", "mlp", "blocks", "spans")
"""Names for all writes of a kind."""
SAMPLED = 2**14
"""Writes from which magnitudes, strengths and the mean are taken where the others stay on the disk."""


class DiffDataModule(ActivationDataModule):
    """Captures writes with their labels from documents, and serves explanations and answers.

    Args:
        model: ``"tiny"``, a local folder, a hub id, or a TransformerLens model.
        tokenizer: of a model given as an object; otherwise it comes with the model.
        sites: ``"heads"``, ``"attn"``, ``"mlp"``, ``"blocks"``, ``"spans"`` for all writes of a kind, or single sites.
        corpus: which texts are read, and what of them: 2,000 documents, four positions each, a tenth held out.
        asked: what is asked and told about each write.
        serving: batches, of 64 items.
        placement: precision and devices of a model given by name, see :func:`tl_nla.load`.

    With ``serving: {window: N}`` writes stay in the shards of ``cache_dir``, of which N are in memory. ``train_writes``
    and ``heldout_writes`` are then an evenly spread sample of each side.

    Raises:
        InputError: for a ``window`` without a ``cache_dir``.
    """

    serves = "writes"
    collated: Any = staticmethod(collate_writes)

    def __init__(
        self, model: Any = "tiny", tokenizer: Any = None, sites: Sequence[str] = ("heads", "mlp"),
        corpus: CorpusConfig | None = None, asked: AskedConfig | None = None, serving: ServingConfig | None = None,
        placement: Placement | None = None,
    ) -> None:  # fmt: skip
        corpus = filled(corpus or CorpusConfig(), documents=2000, positions_per_document=4)
        asked = asked or AskedConfig()
        words = WordsConfig(asked.explainer)
        super().__init__(model, tokenizer, "blocks.0.hook_resid_pre", corpus, words, serving, placement)
        self.site_names, self.heldout_heads, self.swap_share = tuple(sites), asked.heldout_heads, asked.swap_share
        self.questions, self.sources_share = asked.questions, asked.sources_share
        self.capture = CaptureConfig(
            self.positions_per_document, asked.top_k, skips=asked.skips, seed=self.seed, prepend_bos=self.prepend_bos,
            levels=tuple(asked.levels),
        )  # fmt: skip
        self.window = (serving or ServingConfig()).window
        if self.window is not None and self.cache_dir is None:
            raise InputError(f"window is {self.window}; writes that are read from the disk need a cache_dir")
        self.shards: dict[str, list[Path]] = {}
        self.train_writes: LabelledWrites | None = None
        self.heldout_writes: LabelledWrites | None = None
        self.untrained: tuple[str, ...] = ()

    def setup(self, stage: str | None = None) -> None:
        """Capture both splits once; strengths of both are told against the training writes."""
        if self.train_writes is not None:
            return
        with progress_bar():
            self._capture()

    def _capture(self) -> None:
        model, tokenizer = self.load_target()
        documents = self.load_documents()
        train, held = self.split(documents)
        capture = replace(self.capture, explainer=self.explainer or brought(documents))
        sites = all_sites(model, self.site_names)
        self.untrained = held_out_heads(sites, self.heldout_heads, self.seed)
        kept = [site for site in sites if site not in self.untrained]
        named = expected_vocabulary(model, tokenizer, train, prepend_bos=capture.prepend_bos)

        def writes_of(side: str, documents: list[Document], asked: list[str]) -> LabelledWrites:
            if self.cache_dir is None:
                return capture_writes(model, tokenizer, documents, asked, capture, named)
            if rank() == 0:
                begin_capture(self.cache_dir, self.model_settings())
            with shared_captures():
                paths = keep_writes(self.cache_dir / side, model, tokenizer, documents, asked, capture, named)
            self.shards[side] = paths
            return sampled_writes(paths, sys.maxsize if self.window is None else SAMPLED)

        writes = writes_of("train", train, kept)
        self.reference = writes.reference()
        self.train_writes = writes.with_strength(self.reference)
        self.heldout_writes = writes_of("heldout", held, sites).with_strength(self.reference)

    @property
    def width(self) -> int | None:
        """Size of the writes, once they are captured."""
        return None if self.train_writes is None else self.train_writes.write.shape[1]

    def about(self) -> dict[str, Any]:
        """What a run that goes on has to be given again."""
        return {"sites": list(self.site_names if self.train_writes is None else self.train_writes.sites)}

    def heldout_rows(self, count: int) -> tuple[Float[Tensor, "n both"], list[str]]:
        """States and writes of some held-out rows side by side, evenly spread over documents and sites; their labels.

        Args:
            count: rows at most.
        """
        writes = captured(self.heldout_writes)
        rows = torch.linspace(0, len(writes) - 1, min(count, len(writes))).long()
        acts = side_by_side(writes.before[rows], writes.write[rows])
        return acts, [writes.text(row) for row in rows.tolist()]

    @property
    def mean(self) -> Float[Tensor, " d_model"]:
        """Mean of the normalised training writes of all sites: the zero of the logged FVE."""
        return normalise(captured(self.train_writes).write).double().mean(0).float()

    def rows(self, train: bool) -> Any:
        """What is asked and told of a side: of writes in memory, or of shards on the disk."""
        side, writes = ("train", self.train_writes) if train else ("heldout", self.heldout_writes)
        swaps, sources = (self.swap_share, self.sources_share) if train else (0.0, None)
        seed, writes = self.seed if train else 0, captured(writes)
        make = partial(WriteTexts, swap_share=swaps, questions=self.questions, sources_share=sources)
        if self.window is None:
            return make(writes, seed=seed)
        own = lambda writes, number: make(writes, seed=f"{seed}/{number}")  # noqa: E731
        return StreamedWriteTexts(self.shards[side], self.reference, self.window, own, 1 + self.questions)

    def order(self, rows: Any) -> ShardSampler | None:
        """Shards that are shuffled together, where writes stay on the disk."""
        return None if self.window is None else ShardSampler(rows, self.seed, self.window)


class OracleTraining(TrainingModule):
    """What trainings of an oracle share: its magnitudes from the data, one optimiser with a one-cycle schedule."""

    needs = "writes"
    oracle: DiffOracle

    def __init__(
        self, oracle: DiffOracle | None, model: str, learning_rate: float, weight_decay: float, optimizer: str,
        injection_char: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        check_rates(learning_rate=learning_rate, weight_decay=weight_decay)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.optimizer = known_optimizer(optimizer)
        object.__setattr__(self, "oracle", oracle or create_oracle(model, injection_char))

    def data_width(self) -> int:
        """Size of the writes."""
        return self.oracle.d_model

    def setup(self, stage: str) -> None:
        """Give the oracle the usual magnitudes of the training writes, unless it knows some already."""
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        found = self.seen(data)
        if found is not None and self.oracle.strength is None:
            self.oracle.fit(*found)
            self.oracle.strength = data.reference

    def seen(self, data: Any) -> tuple[Tensor, Tensor] | None:
        """States and writes that the magnitudes are taken from; ``None`` where the data have none."""
        writes = getattr(data, "train_writes", None)
        return None if writes is None else (writes.before, writes.write)

    def configure_optimizers(self) -> Any:
        """See :func:`lightning_modules.training.schedules.scheduled_optimizer`."""
        rates = self.learning_rate, self.weight_decay
        return scheduled_optimizer(self.named_parameters(), self.optimizer, *rates, run_length(self.trainer))

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Keep single batches from throwing the weights far off."""
        torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)


def taught_loss(
    verbalizer: WriteVerbalizer, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"],
    questions: list[str],
    texts: list[str],
) -> Float[Tensor, ""]:  # fmt: skip
    """A verbalizer's loss on what it is taught: the given texts, or what stands in its source slots."""
    return verbalizer.loss(before, write, questions, verbalizer.taught(before, write, questions, texts))


class DiffOracleTraining(OracleTraining):
    """Supervised training of the verbalizer on label texts and answers (full fine-tuning, or LoRA on a PEFT model).

    Args:
        model: what the oracle is made from when ``oracle`` is not given: ``"tiny"``, a local folder or a hub id. The
            folder of an oracle (:class:`lightning_modules.SaveOracle`) goes on with that one.
        learning_rate: peak of the schedule.
        weight_decay: of the optimiser.
        oracle: the oracle whose verbalizer is trained.
        optimizer: ``"adamw"``, or ``"muon"`` (learning rate about 0.01), which trains small models in fewer steps.
        injection_char: marker of a fresh oracle, one token inside the prompts; chosen or added when ``None``.
    """

    def __init__(
        self, model: str = "tiny", learning_rate: float = 1e-3, weight_decay: float = 0.01,
        oracle: DiffOracle | None = None, optimizer: str = "adamw", injection_char: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(oracle, model, learning_rate, weight_decay, optimizer, injection_char)
        self.save_hyperparameters("model", "learning_rate", "weight_decay", "optimizer", "injection_char")
        self.verbalizer: WriteVerbalizer = self.oracle.verbalizer.train()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch of mixed questions."""
        loss = taught_loss(self.verbalizer, batch["before"], batch["write"], batch["questions"], batch["texts"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["texts"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out loss, and the same with the writes of other rows: their gap is what the write tells."""
        size, rest = len(batch["texts"]), (batch["questions"], batch["texts"])
        self.log(
            "val/loss", self.verbalizer.loss(batch["before"], batch["write"], *rest), prog_bar=True, batch_size=size
        )
        shuffled = self.verbalizer.loss(batch["before"], batch["write"].roll(1, 0), *rest)
        self.log("val/loss_shuffled", shuffled, batch_size=size)

    test_step = validation_step


class DiffNLATraining(OracleTraining):
    """Warm start of the diff NLA: its reconstructor learns to rebuild writes, size included, from label texts.

    Args: as for :class:`DiffOracleTraining`.
    """

    def __init__(
        self, model: str = "tiny", learning_rate: float = 1e-3, weight_decay: float = 0.01,
        oracle: DiffOracle | None = None, optimizer: str = "adamw", injection_char: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(oracle, model, learning_rate, weight_decay, optimizer, injection_char)
        self.save_hyperparameters("model", "learning_rate", "weight_decay", "optimizer", "injection_char")
        self.reconstructor: WriteReconstructor = self.oracle.reconstructor.train()
        self.fve: FractionOfVarianceExplained | None = None

    def setup(self, stage: str) -> None:
        """Magnitudes and the mean that FVE is measured from."""
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        self.fve = FractionOfVarianceExplained(mean=None if data is None else data.mean)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """Loss of the explanations of one batch; answers alone do not determine a write."""
        texts, write = _explanations(batch)
        if not texts:
            return None
        loss = self._loss(texts, write)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(texts))
        return loss

    def _loss(self, texts: list[str], write: Tensor) -> Tensor:
        return self.reconstructor.loss(texts, write)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out FVE of the right label texts, and the mean error of the log norm in standard deviations."""
        texts, write = _explanations(batch)
        if texts and self.fve is not None:
            found = self.reconstructor.reconstruct(texts).to(write)
            self.fve.update(found, write)
            self.log("val/fve", self.fve, prog_bar=True, batch_size=len(texts))
            ratio = (found.norm(dim=-1) / write.norm(dim=-1).clamp_min(1e-12)).log().abs().mean()
            self.log("val/log_norm_error", ratio / self.reconstructor.log_norm_std, batch_size=len(texts))

    test_step = validation_step


def create_oracle(model: str, injection_char: str | None = None) -> DiffOracle:
    """The oracle in a folder or hub repository of one; of a model (``"tiny"``, a folder, a hub id) a fresh one.

    Args:
        model: see above.
        injection_char: marker of a fresh one; see :meth:`tl_nla.DiffOracle.create`.

    Raises:
        InputError: when the oracle that is there has another marker, or a fresh one cannot be made.
    """
    from tl_nla.model.loading import load_causal_lm, load_tokenizer
    from tl_nla.model.targets import model_folder

    folder = model_folder(model)
    if (folder / SIDECAR).is_file():
        found = DiffOracle.from_pretrained(folder)
        if injection_char not in (None, found.verbalizer.char):
            own = found.verbalizer.char
            raise InputError(f"the oracle in {model!r} has the marker {own!r}; leave out injection_char")
        return found
    tokenizer = load_tokenizer(folder)
    oracle_marker(tokenizer, char=injection_char)  # before the model is loaded
    lm = load_causal_lm(folder, torch.float32)
    oracle = DiffOracle.create(lm, tokenizer, injection_char=injection_char)
    oracle.base = model
    return oracle


def all_sites(model: Any, names: Sequence[str]) -> list[str]:
    """Sites by their texts, the names of ``GROUPS`` spelled out.

    Raises:
        InputError: for a name that is neither a group nor a site of the model.
    """
    layers, heads = range(int(model.cfg.n_layers)), range(int(model.cfg.n_heads))
    groups = {
        "heads": [f"blocks.{i}.attn.head.{h}" for i in layers for h in heads],
        "attn": [f"blocks.{i}.attn" for i in layers],
        "mlp": [f"blocks.{i}.mlp" for i in layers],
        "blocks": [f"blocks.{i}" for i in layers],
        "spans": [f"blocks.{i}.hook_resid_pre -> blocks.{j}.hook_resid_post" for i in layers for j in layers if i < j],
    }
    sites: list[str] = []
    for name in names:
        if name not in groups and "." not in name:
            raise unknown("group of writes", name, GROUPS)
        sites += groups[name] if name in groups else [str(Site.parse(name).validate(model))]
    return list(dict.fromkeys(sites))


def held_out_heads(sites: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """The heads that are left out of training: the rounded share of all heads among the sites, drawn by the seed."""
    heads = [site for site in sites if Site.parse(site).kind == "head"]
    drawn = random.Random(f"heads/{seed}").sample(heads, round(share * len(heads)))
    return tuple(site for site in heads if site in drawn)


def _explanations(batch: dict[str, Any]) -> tuple[list[str], Tensor]:
    rows = [row for row, question in enumerate(batch["questions"]) if question == EXPLAIN]
    return [batch["texts"][row] for row in rows], batch["write"][rows]
