"""Settings that all data modules share: which texts are read, what of them, and how rows are served."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tl_nla.amounts import check_count, check_counts
from tl_nla.data import check_source, split_documents
from tl_nla.errors import InputError
from tl_nla.explainers.functions import Named
from tl_nla.outputs import check_folder
from tl_nla.paths import user_path
from tl_nla.plugins import world


@dataclass(frozen=True)
class CorpusConfig:
    """Which texts are read, and what of them.

    Attributes:
        source: see :func:`tl_nla.data.load_documents`, or the documents themselves.
        documents: how many documents are read at most; the data module's own number when ``None``.
        positions_per_document: positions drawn from each document; the data module's own number when ``None``.
        heldout: share of documents held out, by the hash of their text; the data module's own when ``None``.
        seed: of the world's stories, the drawn positions and the order of rows.
        prepend_bos: see :class:`tl_nla.model.text.TextEncoder`.
        cache_dir: folder in which the capture is kept; the next run with the same settings reads it, and goes on with
            one that was interrupted.
        longest: tokens of a text that are read at most; all that the model can take when ``None``.
        shuffled: draw the documents from the whole source, in an order given by ``seed``, instead of taking the first
            ones. A source whose documents stand together by kind needs it.

    Raises:
        InputError: for a source that is not there, the seed of held-out stories, or a number out of range.
    """

    source: Any = "world"
    documents: int | None = None
    positions_per_document: int | None = None
    heldout: float | None = None
    seed: int = 0
    prepend_bos: bool | None = None
    cache_dir: str | None = None
    longest: int | None = None
    shuffled: bool = False

    def __post_init__(self) -> None:
        check_counts(self, "documents", "positions_per_document", "longest")
        if self.heldout is not None:
            split_documents([], self.heldout)
        plugin = world(self.source)
        if plugin is not None and self.seed == plugin.HELD_OUT_SEED:
            raise InputError(f"seed is {self.seed}, the stream of held-out stories; choose any other seed")
        if not isinstance(self.source, str) and not self.source:
            raise InputError("source holds no documents; at least one is needed on each side of the split")
        if isinstance(self.source, str):
            check_source(self.source)

    @property
    def folder(self) -> Path | None:
        """Where the capture is kept.

        Raises:
            InputError: when it cannot be written to.
        """
        return None if self.cache_dir is None else check_folder(user_path(self.cache_dir))


@dataclass(frozen=True)
class ServingConfig:
    """How rows are served.

    Attributes:
        batch_size: rows a batch; the data module's own number when ``None``.
        num_workers: processes that fetch rows; the rows are in memory, so that 0 is fastest.
        window: of writes that are kept (``cache_dir``), so many shards of 64 documents are in memory and shuffled
            together; everything is in memory when ``None``.

    Raises:
        InputError: for a number that is too small.
    """

    batch_size: int | None = None
    num_workers: int = 0
    window: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, "batch_size", "window")
        check_count("num_workers", self.num_workers, 0)


@dataclass(frozen=True)
class WordsConfig:
    """Where the explanations of states come from.

    Attributes:
        explainer: a name of :data:`tl_nla.explainers.functions.NAMED`, a :data:`tl_nla.explainers.Explainer`, or a
            function from a :class:`tl_nla.explainers.Moment` to a text. Names are ``"mechanical"``, and ``"column"``
            for those that the documents bring. When ``None``: those that the documents bring where there are any, else
            mechanical ones, or those of an embedded model's world.
        grounding: probes of the site that tell which facts explanations may say; for ``"tiny"`` at the embedded NLA's
            site the embedded ones unless others are given.
    """

    explainer: Named | Callable[..., Any] | str | None = None
    grounding: Any = None


def filled(config: Any, **own: Any) -> Any:
    """A configuration with a data module's own numbers where it says ``None``.

    Args:
        config: a :class:`CorpusConfig` or :class:`ServingConfig`.
        own: by field.
    """
    lacking = {field.name for field in fields(config) if getattr(config, field.name) is None}
    return replace(config, **{name: value for name, value in own.items() if name in lacking})
