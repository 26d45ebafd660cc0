"""States and their explanations as a Lightning data module."""

import copy
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch.utils.data import Dataset

from lightning_modules.data.kept_states import StateReader, kept_states
from lightning_modules.data.served import ServedModule, captured
from lightning_modules.data.settings import CorpusConfig, ServingConfig, WordsConfig, filled
from tl_nla.data import Document, ExplainedStates, load_documents, split_documents
from tl_nla.data.documents import shuffle_documents
from tl_nla.data.explained import StateCapture
from tl_nla.data.progress import progress_bar, tell
from tl_nla.errors import InputError
from tl_nla.explainers import ColumnExplainer, Explainer, as_explainer, explain_mechanically
from tl_nla.explainers.column import COLUMN
from tl_nla.metrics import normalise
from tl_nla.model.placement import Placement
from tl_nla.model.sites import Site
from tl_nla.plugins import embedded, world


class StateExplanations(Dataset[tuple[Tensor, str]]):
    """Rows ``(activation, explanation)`` of a capture."""

    def __init__(self, states: ExplainedStates) -> None:
        self.states = states

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return self.states.acts[index], self.states.explanations[index]


def collate(rows: list[tuple[Tensor, str]]) -> dict[str, Any]:
    """A batch: the states under ``acts``, their texts under ``texts``."""
    return {"acts": torch.stack([act for act, _ in rows]), "texts": [text for _, text in rows]}


def explainer_of(model: Any, site: str, grounding: Any = None, source: Any = None) -> Explainer:
    """What writes the explanations of a model's states.

    Args:
        model: name or object.
        site: hook point of the states.
        grounding: probes of an embedded model's world, which tell what its explanations may say.
        source: where the documents come from.

    Returns:
        The explainer of an embedded model, or of the world that the documents come from; of any other model and
        text the mechanical one.
    """
    plugin = embedded(model) or world(source) or (None if grounding is None else world("world"))
    if plugin is None:
        return explain_mechanically
    found: Explainer = plugin.explainer(site, grounding, embedded(model) is not None)
    return found


def brought(documents: Sequence[Document]) -> Explainer | None:
    """An explainer of the explanations that documents bring, with a line on the log; ``None`` where none does."""
    count = sum(document.notes.get(COLUMN) is not None for document in documents)
    if not count:
        return None
    rank_zero_info(f"{count} of {len(documents)} documents bring an explanation; the others are left out")
    return ColumnExplainer()


class ActivationDataModule(ServedModule):
    """Captures states at a site from documents, writes their explanations, and serves both.

    Documents are split by the hash of their text. Nothing is captured before ``setup``.

    Args:
        model: ``"tiny"``, a local folder, a hub id, or a TransformerLens model.
        tokenizer: of a model given as an object; otherwise it comes with the model.
        site: residual-stream hook point to read, such as ``"blocks.2.hook_resid_post"``.
        corpus: which texts are read, and what of them: 8,000 documents, five positions each, a tenth held out.
        words: where the explanations come from.
        serving: batches, of 64 rows.
        placement: precision and devices of a model given by name, see :func:`tl_nla.load`.
    """

    collated: Any = staticmethod(collate)

    def __init__(
        self, model: Any = "tiny", tokenizer: Any = None, site: str = "blocks.2.hook_resid_post",
        corpus: CorpusConfig | None = None, words: WordsConfig | None = None, serving: ServingConfig | None = None,
        placement: Placement | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        read: Any = filled(corpus or CorpusConfig(), documents=8000, positions_per_document=5, heldout=0.1)
        served: Any = filled(serving or ServingConfig(), batch_size=64)
        if served.window is not None and self.serves == "states":
            raise InputError(f"window is {served.window}, which is for writes; CapturedDataModule reads kept states")
        words, self.placement = words or WordsConfig(), placement or Placement()
        self._target = (model, tokenizer)
        self.site, self.source, self.documents = Site.parse(site), read.source, read.documents
        self.positions_per_document, self.heldout, self.seed = read.positions_per_document, read.heldout, read.seed
        self.prepend_bos, self.cache_dir = read.prepend_bos, read.folder
        self.longest, self.shuffled = read.longest, read.shuffled
        self.batch_size, self.num_workers, self.grounding = served.batch_size, served.num_workers, words.grounding
        self.explainer = None if words.explainer is None else as_explainer(words.explainer)
        self.train_states: ExplainedStates | None = None
        self.heldout_states: ExplainedStates | None = None

    def setup(self, stage: str | None = None) -> None:
        """Capture both splits once, or read what an earlier run kept of them."""
        if self.train_states is not None:
            return
        with progress_bar():
            model, tokenizer = self.load_target()
            documents = self.load_documents()
            explainer = self.explainer or brought(documents)
            explainer = explainer or explainer_of(self._target[0], str(self.site), self.grounding, self.source)
            how = StateCapture(self.seed, explainer=explainer, prepend_bos=self.prepend_bos, longest=self.longest)
            reader = StateReader(model, tokenizer, str(self.site), self.positions_per_document, how)
            train, held = self.split(documents)
            if self.cache_dir is None:
                self.train_states, self.heldout_states = reader.read(train), reader.read(held)
            else:
                found = kept_states(self.cache_dir, self._settings(explainer), reader, documents, self.heldout)
                self.train_states, self.heldout_states = found

    def split(self, documents: list[Document]) -> tuple[list[Document], list[Document]]:
        """Documents to train on and held-out ones.

        Raises:
            InputError: when one side is empty.
        """
        train, held = split_documents(documents, self.heldout)
        if not train or not held:
            raise InputError(f"{len(train)} documents to train on and {len(held)} held out; give more documents")
        return train, held

    def _settings(self, explainer: Any) -> dict[str, Any]:
        """What decides the kept rows, beside the texts."""
        return {**self.model_settings(), "site": str(self.site), "positions_per_document": self.positions_per_document,
                "seed": self.seed, "dtype": "float32", "grounded": getattr(explainer, "grounding", None) is not None,
                "explainer": getattr(explainer, "__qualname__", type(explainer).__name__),
                **({} if self.longest is None else {"longest": self.longest})}  # fmt: skip

    def model_settings(self) -> dict[str, Any]:
        """Which model is read, and how, for the settings of a kept capture."""
        model = self._target[0]
        return {
            "model": model if isinstance(model, str) else type(model).__name__,
            "prepend_bos": self.prepend_bos,
            **self._quantization(),
            "model_dtype": self.placement.dtype if isinstance(model, str) else str(next(model.parameters()).dtype),
        }

    def _quantization(self) -> dict[str, str]:
        """Of a model given by name; kept captures of plain weights do not say anything about it."""
        named = isinstance(self._target[0], str) and self.placement.quantization is not None
        return {"quantization": str(self.placement.quantization)} if named else {}

    @property
    def width(self) -> int | None:
        """Size of the vectors, once they are captured."""
        return None if self.train_states is None else self.train_states.acts.shape[1]

    def about(self) -> dict[str, Any]:
        """What a run that goes on has to be given again."""
        return {"site": str(self.site)}

    def load_target(self) -> tuple[Any, Any]:
        """The TransformerLens model and its tokenizer."""
        model, tokenizer = self._target
        if isinstance(model, str):
            from tl_nla.model.targets import load_target

            tell(f"loading {model}")
            target = load_target(model, placement=self.placement)
            return target.model, target.tokenizer
        return model, tokenizer or model.tokenizer

    def load_documents(self) -> list[Document]:
        """All documents of the source."""
        if self.shuffled:
            return shuffle_documents(self._documents(None), self.seed)[: self.documents]
        return self._documents(self.documents)

    def _documents(self, limit: int | None) -> list[Document]:
        if not isinstance(self.source, str):
            return list(self.source)[:limit]
        return load_documents(self.source, sys.maxsize if limit is None else limit, self.seed)

    def on_contexts(self) -> "ActivationDataModule":
        """The same rows with raw context in the place of the explanations, for the ``cat`` control."""
        other = copy.copy(self)
        for side in ("train_states", "heldout_states"):
            states = captured(getattr(self, side))
            setattr(other, side, dataclasses.replace(states, explanations=states.contexts))
        return other

    def heldout_rows(self, count: int) -> tuple[Float[Tensor, "n d_model"], list[str]]:
        """The first held-out states and their texts."""
        held = captured(self.heldout_states)
        return held.acts[:count], held.explanations[:count]

    @property
    def mean(self) -> Float[Tensor, " d_model"]:
        """Mean of the normalised training states: the zero of every FVE."""
        return normalise(captured(self.train_states).acts).double().mean(0).float()

    def rows(self, train: bool) -> Any:
        """States with their explanations."""
        return StateExplanations(captured(self.train_states if train else self.heldout_states))
