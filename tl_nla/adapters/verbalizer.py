"""An adapter that says in words what the activations hold that the model computes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.adapters.reading import ReadingAdapter, joined
from tl_nla.adapters.stream import Generated
from tl_nla.errors import InputError
from tl_nla.metrics.functional import cosine, squared_deviations, squared_errors
from tl_nla.model.positions import Positions
from tl_nla.model.sites import Site
from tl_nla.nla.inputs import check_acts, check_texts
from tl_nla.notebook import Rows, Shown


@dataclass(frozen=True)
class Explanation(Shown):
    """One activation in words.

    Attributes:
        site: where it was read.
        batch: row of the batch (numbered on over several texts).
        position: number among the row's tokens.
        token: the token there, decoded; ``None`` where the ids or the tokenizer are not known.
        text: the explanation; an unfinished one as it stands.
        closed: whether the explanation was finished and could be extracted.
        fve: 1 − ‖p − g‖² / ‖g − mean‖² with the reconstruction p and the activation g normalised to √d_model and the
            mean of the training set. ``None`` when the NLA has no ``mean``, for one row has no variance of its own. A
            single row's value can be far below zero where g lies near the mean.
        cosine: of the reconstruction with the activation.
    """

    site: str
    batch: int
    position: int
    token: str | None
    text: str
    closed: bool
    fve: float | None
    cosine: float

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for tables and JSON."""
        return asdict(self)


class VerbalizerAdapter(ReadingAdapter):
    """Explains states or writes of whatever the model runs, at the chosen positions.

    Args:
        nla: the NLA: anything with ``verbalize(acts) -> list[str]`` and ``reconstruct(texts) -> "n d_model"``, or a
            hosted one (:class:`tl_nla.nla.hosted.HostedNLA`). It was trained on one layer's states; at other sites
            judge its words by their cosine.
        site: where to read; several sites are explained in one batch.
        positions: see :class:`tl_nla.adapters.ReadingAdapter`.
        generated: whether generated tokens are explained.
        attention_mask: of the prompt.
    """

    def __init__(
        self, nla: Any, site: Site | str | Sequence[Site | str], positions: Positions = "all",
        generated: Generated = True, attention_mask: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__(site, positions, generated, attention_mask)
        self.nla = nla

    def _explainer(self) -> tuple[Any, str, tuple[str, ...]]:
        """Refuses what is no NLA, and a model of another width."""
        speaks = next((name for name in ("describe", "generate") if hasattr(self.nla, name)), "verbalize")
        return (self.nla, "the NLA reads activations", (speaks, "reconstruct"))

    def results(self, tokens: Int[Tensor, "batch pos"] | None = None, **settings: Any) -> list[Explanation]:
        """Explain everything that was read, in one batch.

        Args:
            tokens: ids of all rows, to name the tokens on a ``HookedTransformer``; a bridge shows them to the adapter.
            settings: for the NLA's ``generate`` (or ``verbalize``), such as ``max_new_tokens``.

        Returns:
            One explanation for each site, row and position, in that order.

        Raises:
            InputError: when nothing was read, or the NLA refuses the activations.
        """
        reading = self.reading(tokens)
        acts = joined([reading[site] for site in self.sites])
        texts, closed, (fves, cosines) = self._explained(acts, settings)
        places = self._places(reading)
        rows = [(str(site), *place) for site in self.sites for place in places]
        scores = zip(rows, texts, closed, fves, cosines, strict=True)
        return Rows(Explanation(*row, text, done, share, angle) for row, text, done, share, angle in scores)

    def _explained(
        self, acts: Float[Tensor, "n d_model"], settings: dict[str, Any]
    ) -> tuple[list[str], list[bool], tuple[Sequence[float | None], list[float]]]:
        if hasattr(self.nla, "describe"):  # a hosted one, which reads its words back itself
            described = self.nla.describe(acts, **settings)
            cosines = [found.cosine for found in described]
            return [found.text for found in described], [True] * len(described), ([None] * len(described), cosines)
        texts, closed = self._explain(acts, settings)
        return texts, closed, self._scores(read_back(self.nla, texts, acts), acts)

    def _explain(self, acts: Float[Tensor, "n d_model"], settings: dict[str, Any]) -> tuple[list[str], list[bool]]:
        if not hasattr(self.nla, "generate"):
            texts = list(self.nla.verbalize(acts, **settings))
            return texts, [True] * len(texts)
        generation = self.nla.generate(acts, **settings)
        return list(generation.texts), [bool(done) for done in generation.extracted]

    def _scores(
        self, found: Float[Tensor, "n d_model"], acts: Float[Tensor, "n d_model"]
    ) -> tuple[Sequence[float | None], list[float]]:
        cosines = cosine(found, acts).tolist()
        mean = getattr(self.nla, "mean", None)
        if mean is None:
            return [None] * len(acts), cosines
        return (1 - squared_errors(found, acts) / squared_deviations(acts, mean)).tolist(), cosines


def read_back(nla: Any, texts: list[str], acts: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
    """What a pair or an oracle reads back from the words that it said of vectors, checked.

    Raises:
        InputError: when it gave words or vectors of another number, kind or size, or ones that are not finite.
    """
    name = type(nla).__name__
    if len(check_texts(texts, f"what {name} said")) != len(acts):
        raise InputError(f"{name} said {len(texts)} texts of {len(acts)} vectors; it must say one of each")
    found = nla.reconstruct(texts)
    check_acts(found, acts.shape[1], f"vectors that {name} reads back")
    if len(found) != len(acts):
        raise InputError(f"{name} reads {len(found)} vectors back from {len(acts)} texts; it must give one a text")
    return found.to(acts.device)
