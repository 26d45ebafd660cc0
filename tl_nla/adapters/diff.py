"""Adapters that say in words what layers and heads write while the model runs or generates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from tl_nla.adapters.reading import ReadingAdapter, joined
from tl_nla.adapters.stream import Generated
from tl_nla.adapters.verbalizer import read_back
from tl_nla.errors import InputError, unknown
from tl_nla.metrics.functional import cosine
from tl_nla.model.positions import Positions
from tl_nla.model.sites import Site
from tl_nla.notebook import Rows, Shown
from tl_nla.oracle.known_sites import site_settings

PARTS = ("block", "attn", "mlp")


@dataclass(frozen=True)
class WriteExplanation(Shown):
    """One write in words.

    Attributes:
        site: whose write.
        batch: row of the batch (numbered on over several texts).
        position: number among the row's tokens.
        token: the token there, decoded; ``None`` where ids or tokenizer are not known.
        text: the explanation.
        norm: L2 norm of the write, in model units.
        relative_norm: the same over the norm of the state before.
        percentile: of the relative norm among those of the site in training, 0 to 100; ``None`` without a reference.
        cosine: of the write read back from the text with the write.
        norm_ratio: norm of the write read back over the norm of the write; ``None`` for a zero write.
    """

    site: str
    batch: int
    position: int
    token: str | None
    text: str
    norm: float
    relative_norm: float
    percentile: float | None
    cosine: float
    norm_ratio: float | None

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for tables and JSON."""
        return asdict(self)


class DiffAdapter(ReadingAdapter):
    """Explains the writes at one or several sites: heads, attentions, MLPs, blocks or spans.

    Args:
        oracle: a :class:`tl_nla.oracle.DiffOracle`, or anything with its ``explain`` and ``reconstruct``.
        sites: writes; all are explained in one batch.
        positions: see :class:`ReadingAdapter`.
        generated: whether generated tokens are read.
        attention_mask: of the prompt.

    Raises:
        InputError: for a site that is a state, not a write.
    """

    def __init__(
        self, oracle: Any, sites: Site | str | Sequence[Site | str], positions: Positions = "all",
        generated: Generated = True, attention_mask: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__(sites, positions, generated, attention_mask)
        states = [str(site) for site in self.sites if not site.is_write]
        if states:
            raise InputError(f"{states[0]} is a state; a diff oracle explains writes, such as 'blocks.0.mlp'")
        self.oracle = oracle

    def _explainer(self) -> tuple[Any, str, tuple[str, ...]]:
        """Refuses what is no diff oracle, and a model of another width."""
        return (self.oracle, "the oracle reads writes", ("explain", "reconstruct"))

    def results(self, tokens: Int[Tensor, "batch pos"] | None = None, **settings: Any) -> list[WriteExplanation]:
        """Explain everything that was read, in one batch.

        Args:
            tokens: ids of all rows, to name the tokens on a ``HookedTransformer``; a bridge shows them to the adapter.
            settings: for the oracle's ``explain``, such as ``max_new_tokens``.

        Returns:
            One explanation for each site, row and position, in that order.
        """
        reading = self.reading(tokens)
        places = self._places(reading)
        write = joined([reading[site] for site in self.sites]).float()
        before = joined([reading.before(site) for site in self.sites]).float()
        settings = {**site_settings(self.oracle, [site for site in self.sites for _ in places]), **settings}
        texts = self.oracle.explain(write, before=before, **settings)
        found = read_back(self.oracle, texts, write).to(write)
        norms, back = write.norm(dim=-1), found.norm(dim=-1)
        relative = norms / before.norm(dim=-1).clamp_min(1e-12)
        keys = [(str(site), *place) for site in self.sites for place in places]
        numbers = zip(norms.tolist(), relative.tolist(), self._percentiles(write, before, len(places)),
                      cosine(found, write).tolist(), back.tolist(), strict=True)  # fmt: skip
        return Rows(
            WriteExplanation(
                site, batch, position, token, text, norm, share, rank, angle, again / norm if norm else None
            )
            for (site, batch, position, token), text, (norm, share, rank, angle, again)
            in zip(keys, texts, numbers, strict=True)
        )  # fmt: skip

    def _percentiles(self, write: Tensor, before: Tensor, rows: int) -> list[float | None]:
        strength = getattr(self.oracle, "strength", None)
        listed: list[float | None] = []
        for index, site in enumerate(self.sites):
            part = slice(index * rows, (index + 1) * rows)
            if strength is None or str(site) not in strength.quantiles:
                listed += [None] * rows
            else:
                listed += strength.percentile(site, write[part], before[part]).tolist()
        return listed


class LayerDiffAdapter(DiffAdapter):
    """Explains what a layer writes.

    Args:
        oracle: the diff oracle.
        layer: which block.
        part: ``"block"``, ``"attn"`` or ``"mlp"``.
        positions: see :class:`ReadingAdapter`.
        settings: as for :class:`DiffAdapter`.
    """

    def __init__(
        self, oracle: Any, layer: int, part: str = "block", positions: Positions = "all", **settings: Any
    ) -> None:
        if part not in PARTS:
            raise unknown("part of a layer", part, PARTS)
        tail = "" if part == "block" else f".{part}"
        super().__init__(oracle, f"blocks.{layer}{tail}", positions, **settings)


class HeadDiffAdapter(DiffAdapter):
    """Explains what one attention head writes.

    Args:
        oracle: the diff oracle.
        layer: its block.
        head: its number.
        positions: see :class:`ReadingAdapter`.
        settings: as for :class:`DiffAdapter`.
    """

    def __init__(self, oracle: Any, layer: int, head: int, positions: Positions = "all", **settings: Any) -> None:
        super().__init__(oracle, f"blocks.{layer}.attn.head.{head}", positions, **settings)
