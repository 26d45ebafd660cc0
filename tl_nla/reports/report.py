"""The report of what each layer and head contributed to the output at some positions of one prompt."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError, unknown
from tl_nla.reports.report_schema import COMPONENTS, SCHEMA, SUMMED, WARNED, check_report

RANKINGS = ("skip", "skip_kl", "direct")


@dataclass(frozen=True)
class Cell:
    """What one component did at one position; the fields are those of :mod:`tl_nla.reports.report_schema`."""

    layer: int
    component: str
    head: int | None
    position: int
    direct: float
    skip_kl: float | None = None
    skip_target_change: float | None = None
    skip_flip: bool = False
    strength: float | None = None
    sources: list[tuple[str, float]] = field(default_factory=list)
    source_positions: list[int] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    suppressed: list[str] = field(default_factory=list)
    explanation: str = ""
    part: str = "attn"

    @property
    def site(self) -> str | None:
        """The component as the text of a :class:`tl_nla.Site`; None for embedding and biases."""
        if self.component in ("embed", "bias", "rounding"):
            return None
        tail = {"block": "", "head": f".{self.part}.head.{self.head}"}.get(self.component, f".{self.component}")
        return f"blocks.{self.layer}{tail}"

    @property
    def name(self) -> str:
        """A short name: ``embedding``, ``L2``, ``L2 attention``, ``L2 MLP``, ``L2 head 3``, ``L2 bias``, ``bias``."""
        if self.component in ("embed", "rounding"):
            return {"embed": "embedding"}.get(self.component, self.component)
        told = {"block": "", "attn": " attention", "mixer": " mixer", "mlp": " MLP", "ple": " per-layer embedding",
                "head": f" head {self.head}", "bias": " bias"}  # fmt: skip
        return f"L{self.layer}{told[self.component]}"


def summed(cells: list[Cell]) -> list[Cell]:
    """Those cells of one position that nothing finer replaces: they add up to the whole."""
    split = {(cell.layer, cell.part) for cell in cells if cell.component == "head"}
    parts = {cell.layer for cell in cells if cell.component not in ("embed", "block", "bias", "rounding")}
    return [
        cell
        for cell in cells
        if cell.component in SUMMED
        or (cell.component in ("attn", "mixer") and (cell.layer, cell.component) not in split)
        or (cell.component == "block" and cell.layer not in parts)
    ]


@dataclass(frozen=True)
class ContributionReport:
    """Contributions of every component at the reported positions of one prompt, in numbers and in words.

    Attributes:
        model: name of the model.
        prompt: its text.
        tokens: text of every token.
        positions: reported columns, ascending.
        target_kind: ``logit``, ``difference`` or ``log_prob``.
        targets: the token explained at each position.
        against: the other token of a difference, else empty.
        predictions: the likeliest next tokens of each position with their probabilities.
        n_layers: blocks of the model.
        n_heads: heads a block.
        cells: one for each component and position.
        totals: the model's own number at each position.
        explained_by: ``oracle`` or ``labels``.
        unaccounted: what no part explains at each position, in units of the totals.
        unaccounted_share: the same as a share of the range of the position's logits.
        notes: what could not be split or left out, and why.
        writes: the writes of the cells whose ``site`` is not None, in their order; not part of the JSON.
        cards: what is known of components in general, by ``site``; shown beside their cells.
    """

    model: str
    prompt: str
    tokens: tuple[str, ...]
    positions: tuple[int, ...]
    target_kind: str
    targets: tuple[str, ...]
    against: tuple[str, ...]
    predictions: tuple[tuple[tuple[str, float], ...], ...]
    n_layers: int
    n_heads: int
    cells: tuple[Cell, ...]
    totals: tuple[float, ...]
    explained_by: str = "labels"
    unaccounted: tuple[float, ...] = ()
    unaccounted_share: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    writes: Float[Tensor, "write d_model"] | None = field(default=None, compare=False, repr=False)
    cards: Mapping[str, str] = field(default_factory=dict, repr=False)

    def sum_of_parts(self, position: int) -> float:
        """Sum of the direct contributions at a position: of every cell that nothing finer replaces."""
        return sum(cell.direct for cell in summed(self.at(position)))

    @property
    def warning(self) -> str | None:
        """What a reader must know before trusting the numbers; ``None`` when the parts explain the model's own."""
        worst = max(self.unaccounted_share, default=0.0)
        if worst <= WARNED:
            return None
        return (
            f"WARNING: the parts do not sum to the model's number: up to {worst:.1%} of the range of the logits is "
            "unaccounted for"
        )

    def at(self, position: int, components: tuple[str, ...] = COMPONENTS) -> list[Cell]:
        """The cells of one position.

        Raises:
            InputError: for a position that is not reported, or an unknown component.
        """
        if position not in self.positions:
            raise unknown("position of the report", position, map(str, self.positions))
        if strangers := [name for name in components if name not in COMPONENTS]:
            raise unknown("component", strangers[0], COMPONENTS)
        return [cell for cell in self._by_position.get(position, ()) if cell.component in components]

    @cached_property
    def _by_position(self) -> dict[int, list[Cell]]:
        found: dict[int, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.position, []).append(cell)
        return found

    def ranked(self, position: int, components: tuple[str, ...] = ("head", "mlp"), by: str = "skip") -> list[Cell]:
        """The cells of a position, those that the output needs most first.

        Args:
            position: a reported column.
            components: which kinds are ranked together.
            by: ``skip`` (loss of the target's log-probability when skipped), ``skip_kl``, or ``direct`` (what is added
                to the target).

        Raises:
            InputError: for an unknown ranking, or one by skips when none were made.
        """
        if by not in RANKINGS:
            raise unknown("ranking", by, RANKINGS)
        name = {"skip": "skip_target_change", "skip_kl": "skip_kl", "direct": "direct"}[by]
        cells = [cell for cell in self.at(position, components) if by == "direct" or cell.skip_kl is not None]
        if not cells:
            raise InputError(f"nothing at position {position} to rank by {by!r}: the report holds no skips")
        sign = 1.0 if by == "skip" else -1.0
        return sorted(cells, key=lambda cell: sign * getattr(cell, name))

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it (:mod:`tl_nla.reports.report_schema`)."""
        target = {"kind": self.target_kind, "tokens": list(self.targets), "against": list(self.against)}
        cells = [{**asdict(cell), "sources": [list(source) for source in cell.sources]} for cell in self.cells]
        sums = [self.sum_of_parts(position) for position in self.positions]
        return {
            "schema": SCHEMA, "model": self.model, "prompt": self.prompt, "tokens": list(self.tokens),
            "positions": list(self.positions), "target": target,
            "predictions": [[list(pair) for pair in row] for row in self.predictions],
            "n_layers": self.n_layers, "n_heads": self.n_heads, "cells": cells, "explained_by": self.explained_by,
            "notes": list(self.notes), "cards": dict(self.cards),
            "total": {"logit": list(self.totals), "sum_of_parts": sums, "unaccounted": list(self.unaccounted),
                      "unaccounted_share": list(self.unaccounted_share)},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, content: Any) -> "ContributionReport":
        """Read a report back; the writes are not part of it.

        Raises:
            InputError: when it is no report of this version.
        """
        found = check_report(content)
        cells = []
        for raw in found["cells"]:
            known = {name: raw[name] for name in Cell.__dataclass_fields__ if name in raw}
            cells.append(Cell(**{**known, "sources": [tuple(pair) for pair in raw["sources"]]}))
        predictions = tuple(tuple((str(word), float(p)) for word, p in row) for row in found["predictions"])
        target, total = found["target"], found["total"]
        return cls(
            found["model"], found["prompt"], tuple(found["tokens"]), tuple(found["positions"]), target["kind"],
            tuple(target["tokens"]), tuple(target.get("against", ())), predictions, found["n_layers"],
            found["n_heads"], tuple(cells), tuple(total["logit"]), found["explained_by"],
            tuple(total.get("unaccounted", ())), tuple(total.get("unaccounted_share", ())),
            tuple(found.get("notes", ())), cards=found.get("cards", {}),
        )  # fmt: skip

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON text; written to ``path`` too, whole or not at all, when one is given."""
        from tl_nla.whole_file import write_json

        if path is not None:
            write_json(self.to_dict(), path)
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_html(
        self, path: str | os.PathLike[str] | None = None, others: "Mapping[str, ContributionReport] | None" = None,
        most_bytes: int = 2_000_000,
    ) -> str:  # fmt: skip
        """One HTML file with the view of the Contributions tab; it loads nothing from anywhere.

        Args:
            path: where it is written, whole or not at all; nowhere when ``None``.
            others: further reports of the same file by name, to be compared with this one.
            most_bytes: largest size of the file. Where more is needed, weak parts lose their words; the page says so.

        Returns:
            The page.

        Raises:
            InputError: when not even the numbers fit, or the file cannot be written.

        Example:
            ``report.to_html("report.html")``
        """
        from tl_nla.reports.html_page import html_page

        return html_page({"report": self, **(others or {})}, path, most_bytes)

    def with_cards(self, cards: Any) -> "ContributionReport":
        """The same report with what head cards say of each head; the tab and the HTML file show it beside the head.

        Args:
            cards: a :class:`tl_nla.reports.heads.HeadCards` of the same model.

        Example:
            ``report.with_cards(HeadCards.from_json("cards.json")).to_html("report.html")``
        """
        from tl_nla.reports.heads.text import kinds, sentences

        told = {f"blocks.{card.layer}.attn.head.{card.head}": " ".join([f"{kinds(card)}.", *sentences(card)])
                for card in cards.cards}  # fmt: skip
        return replace(self, cards=told)

    def _repr_html_(self) -> str:
        from tl_nla.reports.html_snippets import report_html

        return report_html(self)

    def rows(self) -> list[dict[str, Any]]:
        """One flat dictionary a cell: its fields, its site, and token and target of its position."""
        index = {position: number for number, position in enumerate(self.positions)}
        return [{"site": cell.site, "token": self.tokens[cell.position], "target": self.targets[index[cell.position]],
                 **asdict(cell)} for cell in self.cells]  # fmt: skip

    def to_frame(self) -> Any:
        """The rows as a ``pandas.DataFrame``."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def to_markdown(self, positions: list[int] | None = None, max_rows: int = 200, narrow: bool = False) -> str:
        """Tables of the contributions, position by position; see :func:`tl_nla.reports.report_text.markdown`."""
        from tl_nla.reports.report_text import markdown

        return markdown(self, positions, max_rows, narrow)

    def figures(self) -> dict[str, Any]:
        """Heat maps as matplotlib figures by name; see :func:`tl_nla.reports.report_figures.figures`."""
        from tl_nla.reports.report_figures import figures

        return figures(self)

    def log(self, writer: Any, step: int, name: str = "prompt", **settings: Any) -> None:
        """Write the report to TensorBoard.

        Args:
            writer: a ``torch.utils.tensorboard.SummaryWriter``.
            step: training step, from 0.
            name: of the prompt.
            settings: ``number`` and ``how``, as for :func:`tl_nla.reports.tensorboard.log_report`.
        """
        from tl_nla.reports.tensorboard.log import log_report

        log_report(writer, self, step, name, **settings)
