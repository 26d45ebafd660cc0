"""One pass over a corpus with ``Trainer.predict``: states and their explanations, in shards on the disk."""

from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from lightning_modules.base import default_float32
from lightning_modules.data.activations import explainer_of
from lightning_modules.data.documents import DocumentDataModule, Run
from lightning_modules.data.kept_states import StateReader
from lightning_modules.outputs import fast_dev_run
from tl_nla.amounts import check_counts
from tl_nla.data.explained import StateCapture
from tl_nla.data.shards import Shard, begin_capture, finish_capture, is_whole, shard_path, write_shard
from tl_nla.errors import InputError
from tl_nla.model.placement import Placement
from tl_nla.model.probe import device_of
from tl_nla.model.sites import Site
from tl_nla.paths import user_path

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class CaptureSettings:
    """How states are captured to the disk.

    Attributes:
        positions_per_document: positions drawn from each document.
        seed: of the drawn positions.
        batch_size: documents a forward pass.
        dtype: of the states on the disk.
        grounding: as for ``ActivationDataModule``.
        prepend_bos: see :class:`tl_nla.model.text.TextEncoder`.
        model_dtype: precision of a model given by name; see :func:`tl_nla.load`.
        device_map: of a model given by name, on several devices; otherwise it goes to the Trainer's device.
        quantization: of a model given by name; see :func:`tl_nla.load`.

    Raises:
        InputError: for a number that is too small.
    """

    positions_per_document: int = 5
    seed: int = 0
    batch_size: int = 64
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    grounding: Any = None
    prepend_bos: bool | None = None
    model_dtype: str = "float32"
    device_map: Any = None
    quantization: str | None = None

    def __post_init__(self) -> None:
        check_counts(self, "positions_per_document", "batch_size")


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
        how: what is drawn, batches, precisions on the disk and of the model.
    """

    target: Any

    def __init__(
        self, folder: str, model: Any = "tiny", tokenizer: Any = None, site: str = "blocks.2.hook_resid_post",
        how: CaptureSettings | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        how = how or CaptureSettings()
        self._placement = Placement(how.model_dtype, None, how.device_map, how.quantization)
        self.folder, self.site, self.dtype_on_disk = user_path(folder), Site.parse(site), how.dtype
        self.positions_per_document, self.seed, self.batch_size = how.positions_per_document, how.seed, how.batch_size
        self.grounding = how.grounding
        self._named, self.prepend_bos = (model, tokenizer), how.prepend_bos
        object.__setattr__(self, "target", None)

    def settings(self) -> dict[str, Any]:
        """What decides the rows of a file."""
        model = self._named[0]
        probes = getattr(explainer_of(model, str(self.site), self.grounding), "grounding", None)
        return {"model": model if isinstance(model, str) else type(model).__name__, "site": str(self.site),
                "positions_per_document": self.positions_per_document, "seed": self.seed,
                "dtype": self.dtype_on_disk, "grounded": probes is not None,
                **({} if self._placement.dtype == "float32" else {"model_dtype": self._placement.dtype}),
                **({} if self._placement.quantization is None else {"quantization": self._placement.quantization}),
                **({} if self.prepend_bos is None else {"prepend_bos": self.prepend_bos})}  # fmt: skip

    def configure_callbacks(self) -> list[L.Callback]:
        """The writer of the shards."""
        return [CaptureWriter()]

    def on_predict_start(self) -> None:
        """Load the target on the device of this process; it stays out of the registered modules."""
        model, tokenizer = self._named
        if isinstance(model, str):
            from tl_nla.model.targets import load_target

            target = load_target(model, placement=self._placement)
            model, tokenizer = target.model, target.tokenizer
        self.site.validate(model)
        if self._placement.device_map is None and device_of(model) != self.device:
            model = model.to(self.device)
        object.__setattr__(self, "target", (model, tokenizer or model.tokenizer))

    @default_float32()
    def predict_step(self, batch: Run, batch_idx: int) -> Shard | None:
        """The rows of one run of documents; ``None`` where they are on the disk already."""
        number, documents = batch.number, batch.documents
        if is_whole(shard_path(self.folder, number)):
            return None
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        model, tokenizer = self.target
        explainer = explainer_of(self._named[0], str(self.site), self.grounding, data.source)
        how = StateCapture(self.seed, self.batch_size, explainer, self.prepend_bos)
        reader = StateReader(
            model, tokenizer, str(self.site), self.positions_per_document, how
        )  # fmt: skip
        first = number * data.documents_per_shard
        return reader.shard(documents, first, data.heldout, _TYPES[self.dtype_on_disk])


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
