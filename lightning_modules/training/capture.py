"""One pass over a corpus with ``Trainer.predict``: states and their explanations, in shards on the disk."""

from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from lightning_modules.base import default_float32
from lightning_modules.data.activations import explainer_of
from lightning_modules.data.documents import DocumentDataModule, Run
from lightning_modules.outputs import fast_dev_run
from tl_nla.amounts import check_count
from tl_nla.data import Document, ExplainedStates, split_documents
from tl_nla.data.explained import StateCapture, explain_states
from tl_nla.data.shards import Shard, Texts, begin_capture, finish_capture, is_whole, shard_path, write_shard
from tl_nla.errors import InputError
from tl_nla.model.sites import Site
from tl_nla.model.text import TextEncoder
from tl_nla.paths import user_path

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ActivationCapture(L.LightningModule):
    """Reads states at a site and writes their explanations, a run of documents at a time.

    Run it with ``Trainer.predict(module, datamodule=DocumentDataModule(...), return_predictions=False)``, or
    ``tl-nla predict``. Runs whose file is there are passed over, so the same line continues a capture that was killed,
    with as many processes as there are now. The rows are those of ``ActivationDataModule`` with the same settings.

    Args:
        folder: where the shards go.
        model: ``"tiny"``, a local folder, a hub id, or a TransformerLens model.
        tokenizer: of a model given as an object; otherwise it comes with the model.
        site: residual-stream hook point to read.
        positions_per_document: positions drawn from each document.
        seed: of the drawn positions.
        batch_size: documents a forward pass.
        dtype: of the states on the disk.
        grounding: as for ``ActivationDataModule``.
        prepend_bos: see :class:`tl_nla.model.text.TextEncoder`.
    """

    target: Any

    def __init__(
        self, folder: str, model: Any = "tiny", tokenizer: Any = None, site: str = "blocks.2.hook_resid_post",
        positions_per_document: int = 5, seed: int = 0, batch_size: int = 64,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32", grounding: Any = None,
        prepend_bos: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.folder, self.site, self.dtype_on_disk = user_path(folder), Site.parse(site), dtype
        self.positions_per_document, self.seed, self.batch_size = positions_per_document, seed, batch_size
        check_count("positions_per_document", positions_per_document)
        check_count("batch_size", batch_size)
        self.grounding = grounding
        self._named, self.prepend_bos = (model, tokenizer), prepend_bos
        object.__setattr__(self, "target", None)

    def settings(self) -> dict[str, Any]:
        """What decides the rows of a file."""
        model = self._named[0]
        probes = getattr(explainer_of(model, str(self.site), self.grounding), "grounding", None)
        return {"model": model if isinstance(model, str) else type(model).__name__, "site": str(self.site),
                "positions_per_document": self.positions_per_document, "seed": self.seed,
                "dtype": self.dtype_on_disk, "grounded": probes is not None,
                **({} if self.prepend_bos is None else {"prepend_bos": self.prepend_bos})}  # fmt: skip

    def configure_callbacks(self) -> list[L.Callback]:
        """The writer of the shards."""
        return [CaptureWriter()]

    def on_predict_start(self) -> None:
        """Load the target on the device of this process; it stays out of the registered modules."""
        model, tokenizer = self._named
        if isinstance(model, str):
            from tl_nla.model.targets import load_target

            target = load_target(model)
            model, tokenizer = target.model, target.tokenizer
        self.site.validate(model)
        if next(model.parameters()).device != self.device:
            model = model.to(self.device)
        object.__setattr__(self, "target", (model, tokenizer or model.tokenizer))

    @default_float32()
    def predict_step(self, batch: Run, batch_idx: int) -> Shard | None:
        """The rows of one run of documents; ``None`` where they are on the disk already."""
        number, documents = batch.number, batch.documents
        if is_whole(shard_path(self.folder, number)):
            return None
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        sides = [self._read(side) for side in split_documents(documents, data.heldout)]
        first = number * data.documents_per_shard
        numbers = {document.id: first + place for place, document in enumerate(documents)}
        return _shard(sides, numbers, _TYPES[self.dtype_on_disk], int(self.target[0].cfg.d_model))

    def _read(self, documents: list[Document]) -> tuple[list[Document], ExplainedStates | None]:
        model, tokenizer = self.target
        encode = TextEncoder(tokenizer, model, self.prepend_bos)
        # A document needs a token after the first position; one word of a long text is enough to look at.
        long = [document for document in documents if len(encode(document.text[:200])) > 1]
        if not long:
            return [], None
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        explainer = explainer_of(self._named[0], str(self.site), self.grounding, data.source)
        return long, explain_states(
            model, tokenizer, long, str(self.site), self.positions_per_document,
            how=StateCapture(self.seed, self.batch_size, explainer, self.prepend_bos),
        )  # fmt: skip


def _shard(sides: list[tuple[list[Document], ExplainedStates | None]], numbers: dict[str, int],
           dtype: torch.dtype, width: int) -> Shard:  # fmt: skip
    found = [(documents, states) for documents, states in sides if states is not None]
    ids = [numbers[documents[row].id] for documents, states in found for row in states.document.tolist()]
    positions = [states.position for _, states in found]
    return Shard(
        acts=torch.cat([torch.empty(0, width), *(states.acts for _, states in found)]).to(dtype),
        explanations=Texts.pack([text for _, states in found for text in states.explanations]),
        contexts=Texts.pack([text for _, states in found for text in states.contexts]),
        document=torch.tensor(ids, dtype=torch.long),
        position=torch.cat([torch.empty(0, dtype=torch.long), *positions]),
        train=0 if sides[0][1] is None else len(sides[0][1]),
    )


class CaptureWriter(BasePredictionWriter):
    """Writes each run's rows when they are read, and the index when all runs are there; nothing in ``fast_dev_run``."""

    def __init__(self) -> None:
        super().__init__("batch")

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what is captured, or check that what is there is of the same kind.

        Raises:
            InputError: when the documents do not come from a ``DocumentDataModule``, or the folder holds another
                capture.
        """
        module: Any = pl_module
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(data, DocumentDataModule):
            raise InputError("ActivationCapture reads the documents of a DocumentDataModule")
        if trainer.is_global_zero and not fast_dev_run(trainer):
            begin_capture(module.folder, {**module.settings(), **data.settings()})
        trainer.strategy.barrier()

    def write_on_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, prediction: Shard | None, batch_indices: Any,
        batch: Run, batch_idx: int, dataloader_idx: int,
    ) -> None:  # fmt: skip
        """Write one shard."""
        module: Any = pl_module
        if prediction is not None and not fast_dev_run(trainer):
            write_shard(module.folder, batch.number, prediction)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the index, unless the pass was cut short."""
        module: Any = pl_module
        data: Any = getattr(trainer, "datamodule", None)
        trainer.strategy.barrier()
        if trainer.is_global_zero and not fast_dev_run(trainer) and data.runs.total is not None:
            finish_capture(module.folder, data.runs.total)
