"""What suites ``heads``, ``layers``, ``spans``, ``questions`` share: what they are computed from, and FVE rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tl_nla.benchmark.bootstrap import fve_interval, ratio_interval
from tl_nla.benchmark.oracle_rows import KINDS, UNREFINED, OracleRows
from tl_nla.benchmark.results import Row
from tl_nla.model.sites import Site

ATTENTION_ARMS = ("sum_of_heads", "cat_long")
"""Arms of attentions only."""
DEFINITION = {
    "fve": "1 - sum|p-g|^2 / sum|g-m|^2; p, g writes L2-normalised to sqrt(d_model), m the training set's mean over "
    "all components; text -> vector by a trained reconstructor",
    "intervals": "95%, bootstrap over documents and seeds",
    "explanation": "greedy words of the diff oracle, read by its reconstructor",
    "gold": "label text computed from the model, read by the same reconstructor",
    "cat": "component and the last tokens of the raw text, as many as the explanation has, read by a reconstructor of "
    "its own with the same start, rows, steps and learning rate",
    "cat_and_explanation": "both texts, read by a reconstructor of its own trained alike (on label texts)",
    "cat_and_shuffled": "the same reconstructor given the explanation of another document's write of the component",
    "state": "component and the tokens that the state before the write promotes and suppresses, with a reconstructor "
    "of its own trained alike",
    "component": "the component's mean training write: the best that a reader of its name alone can do",
    "shuffled": "the explanation of another document's write of the same component",
    "probe": "ridge regression of the component's write on the state before it (a probe that also saw the write would "
    "copy it)",
    "fve/increment": "FVE of the arm minus FVE of cat, on the same rows",
    "fve/step_N": "FVE after N steps of the arm's reconstructor (learning curve, no interval)",
    "own_run": "what the component writes when the model reads only the context of cat; nothing is trained",
    "heldout": "stories that no training reads; components that were trained on",
    "heldout_heads": "the same stories; a quarter of the heads, which nothing was trained on. Of the embedded model: a "
    "run of its own (fewer steps, labels with every token), since the embedded oracle was trained on all heads",
}


@dataclass(frozen=True)
class ScoredOracles:
    """What the suites of oracles are computed from.

    Attributes:
        model: name of the target.
        parts: row scores, a seed each.
        source: where they come from, in words.
        untrained: row scores of runs that left heads out; those of ``parts`` that did when empty.
        longer: row scores of readers that were trained longer.
        plateau: row scores of a network on the model's own run on raw context, with words and without.
    """

    model: str
    parts: list[OracleRows]
    source: str
    untrained: list[OracleRows] = field(default_factory=list)
    longer: list[OracleRows] = field(default_factory=list)
    plateau: list[OracleRows] = field(default_factory=list)

    @property
    def definition(self) -> dict[str, Any]:
        """What the numbers mean."""
        return {**DEFINITION, "source": self.source}

    @property
    def without_heads(self) -> list[OracleRows]:
        """Row scores of runs that left heads out."""
        return [part for part in self.parts if part.untrained] or self.untrained

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trainings."""
        return [part.seed for part in self.parts]


def trained_on_them(parts: Sequence[OracleRows], untrained: Sequence[OracleRows]) -> list[OracleRows]:
    """Rows of oracles that know the heads that others of the same seed left out, told apart as those others' are.

    Those that left heads out have linear heads alone, so the others' refinements are left out, too.
    """
    left_out = {part.seed: part.untrained for part in untrained}
    return [replace(part.unrefined(), untrained=left_out[part.seed])
            for part in parts if part.seed in left_out and not part.untrained]  # fmt: skip


def generator() -> torch.Generator:
    """The source of every interval's draws."""
    return torch.Generator().manual_seed(0)


def joined(parts: Sequence[OracleRows], arm: str, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Errors, deviations, documents and seeds of an arm on chosen rows of each seed."""
    pairs = list(zip(parts, chosen, strict=True))
    return (
        torch.cat([part.errors[arm][rows].double() for part, rows in pairs]),
        torch.cat([part.deviation[rows].double() for part, rows in pairs]),
        torch.cat([part.document[rows] for part, rows in pairs]),
        torch.cat([torch.full((len(rows),), part.seed) for part, rows in pairs]),
    )


def fve_rows(
    parts: Sequence[OracleRows], arms: Sequence[str], kind: str, metric: str = "fve", split: str = "heldout",
    heads: bool = False,
) -> list[Row]:  # fmt: skip
    """FVE of every arm: over all components of a kind, for each layer and, if wanted, for each head."""
    rows: list[Row] = []
    for arm in arms:
        having = [part for part in parts if arm in part.errors]
        for where, chosen in _places(having, kind, split == "heldout", heads):
            terms = joined(having, arm, chosen)
            rows.append(Row.of(arm, metric, fve_interval(*terms, generator=generator()), split, **where))
    return rows


def increment_rows(
    parts: Sequence[OracleRows], arms: Sequence[str], kind: str, metric: str = "fve/increment", base: str = "cat"
) -> list[Row]:
    """FVE of arms minus that of another, on the same rows, over all components of a kind and for each layer."""
    rows: list[Row] = []
    for arm in arms:
        having = [part for part in parts if arm in part.errors and base in part.errors]
        for where, chosen in _places(having, kind, True, False):
            one, deviation, documents, seeds = joined(having, arm, chosen)
            other = joined(having, base, chosen)[0]
            interval = ratio_interval(other - one, deviation, documents, seeds, generator=generator())
            rows.append(Row.of(arm, metric, interval, **where))
    return rows


def curve_rows(parts: Sequence[OracleRows], kind: str, name: str = "fve") -> list[Row]:
    """Learning curves: FVE of each arm's reconstructor at several step counts, the mean over seeds."""
    column = 1 + KINDS.index(kind)
    rows = []
    for arm in sorted({arm for part in parts for arm in part.curves}):
        tables = [part.curves[arm] for part in parts if arm in part.curves]
        for line in range(len(tables[0])):
            values = [float(table[line, column]) for table in tables]
            if all(value == value for value in values):
                metric = f"{name}/step_{int(tables[0][line, 0])}"
                rows.append(Row(arm, metric, sum(values) / len(values), None, None, len(values)))
    return rows


def all_arms(parts: Sequence[OracleRows]) -> list[str]:
    """Arms that some seed has, in the order in which they were scored."""
    return list(dict.fromkeys(arm for part in parts for arm in part.errors if not arm.startswith(UNREFINED)))


def _places(
    parts: Sequence[OracleRows], kind: str, trained: bool, heads: bool
) -> list[tuple[dict[str, Any], list[Tensor]]]:
    whole = [part.rows_of(kind, trained) for part in parts]
    if not parts or not all(len(rows) for rows in whole):
        return []
    places: list[tuple[dict[str, Any], list[Tensor]]] = [({}, whole)]
    sites = [Site.parse(site) for site in parts[0].sites]
    wanted: list[dict[str, Any]] = [
        {"layer": layer}
        for layer in sorted({site.layer for site in sites if site.kind == kind and site.layer is not None})
    ]
    if heads:
        wanted += [{"layer": site.layer, "head": site.head} for site in sites if site.kind == "head"]
    for where in wanted:
        matching = {place for place, site in enumerate(sites) if all(getattr(site, k) == v for k, v in where.items())}
        chosen = [
            rows[torch.isin(part.site[rows], torch.tensor(sorted(matching)))]
            for part, rows in zip(parts, whole, strict=True)
        ]
        # Every seed leaves out other heads: seeds without this one are left out of its number.
        if all(len(rows) for rows in chosen):
            places.append((dict(where), chosen))
    return places
