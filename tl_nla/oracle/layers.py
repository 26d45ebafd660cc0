"""A layer read as the list of what its heads write: one explanation a head, and their sum as the layer's write.

Heads write independently and their writes add up (Elhage et al. 2021). So the reconstruction of a layer's attention
write is the sum of the heads' reconstructed writes, each at its told size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.reading import Reading
from tl_nla.model.sites import Site
from tl_nla.notebook import table_html
from tl_nla.oracle.known_sites import site_settings


@dataclass(frozen=True)
class LayerWords:
    """What a layer's heads write, in words.

    Attributes:
        site: the layer's attention.
        heads: for each row the heads, strongest write first.
        texts: for each row their explanations in that order.
        write: for each row the sum of the heads' writes read back from the words, in model units.
    """

    site: Site
    heads: list[list[int]]
    texts: list[list[str]]
    write: Float[Tensor, "n d_model"]

    def _repr_html_(self) -> str:
        rows = [(row, head, text) for row, heads in enumerate(self.heads)
                for head, text in zip(heads, self.texts[row], strict=True)]  # fmt: skip
        return table_html(("row", "head", "in words"), rows, f"Heads of {self.site}, strongest write first")

    def text(self, row: int) -> str:
        """The explanations of a row, one behind the other."""
        return ". ".join(self.texts[row])


def head_sites(model: Any, layer: int) -> list[Site]:
    """The sites of a layer's heads.

    Raises:
        InputError: when the layer does not exist.
    """
    count = int(model.cfg.n_heads)
    return [Site("head", layer, head).validate(model) for head in range(count)]


def sum_of_heads(
    oracle: Any, reading: Reading, layer: int, strongest: int | None = None, **settings: Any
) -> LayerWords:
    """Explain a layer's attention write as the list of its strongest heads' explanations.

    Args:
        oracle: a :class:`tl_nla.oracle.DiffOracle`, or anything with its ``explain`` and ``reconstruct``.
        reading: with the writes of the layer's heads (:func:`head_sites`).
        layer: which layer.
        strongest: how many heads are told at each position, by the norm of their write; all when ``None``.
        settings: for ``oracle.explain``.

    Raises:
        InputError: when no head of the layer was read, or ``strongest`` is below 1.
    """
    heads = [site for site in reading.sites if site.kind == "head" and site.layer == layer]
    if not heads:
        raise InputError(f"the reading holds no head of layer {layer}; read head_sites(model, {layer})")
    writes = torch.stack([reading[site].float() for site in heads])
    before = torch.stack([reading.before(site).float() for site in heads])
    return add_heads(oracle, writes, before, heads, strongest, **settings)


def add_heads(
    oracle: Any, writes: Float[Tensor, "head n d_model"], before: Float[Tensor, "head n d_model"],
    heads: Sequence[Site], strongest: int | None = None, **settings: Any,
) -> LayerWords:  # fmt: skip
    """As :func:`sum_of_heads`, from vectors."""
    if strongest is not None and strongest < 1:
        raise InputError(f"strongest is {strongest}; at least 1 head must be told")
    if len(heads) != len(writes) or len({site.layer for site in heads}) != 1:
        raise InputError(f"{len(heads)} sites were given for the writes of {len(writes)} heads of one layer")
    count = min(strongest or len(heads), len(heads))
    order = writes.norm(dim=-1).argsort(0, descending=True)[:count]
    rows = torch.arange(writes.shape[1], device=writes.device).expand(count, -1)
    settings = {**site_settings(oracle, [heads[place] for place in order.flatten().tolist()]), **settings}
    texts = oracle.explain(writes[order, rows].flatten(0, 1), before=before[order, rows].flatten(0, 1), **settings)
    found = oracle.reconstruct(texts).unflatten(0, (count, writes.shape[1]))
    columns = [[texts[place * writes.shape[1] + row] for place in range(count)] for row in range(writes.shape[1])]
    named = [[int(heads[place].head or 0) for place in column] for column in order.T.tolist()]
    return LayerWords(Site("attn", heads[0].layer), named, columns, found.sum(0))
