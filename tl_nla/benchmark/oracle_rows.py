"""Scores of a diff oracle, row by row: every arm's squared error, and every question's counts.

Rows, not averages, are kept, so that seeds can be joined and intervals drawn over documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.model.sites import Site

KINDS = ("head", "attn", "mlp", "block", "span")
UNREFINED = "unrefined/"
"""Before the name of an arm: its errors without the refinement of its reader."""


@dataclass
class OracleRows:
    """Row scores of one trained oracle on held-out writes.

    Attributes:
        seed: of the training.
        sites: texts of the sites.
        untrained: the heads that no part was trained on.
        means: mean of the normalised training writes, over all sites first, then of each site (zero for the
            untrained).
        site: index into ``sites``.
        document: of each row.
        position: of each row.
        deviation: squared distance of each normalised write to the mean over all sites (the denominator of FVE).
        errors: arm -> squared error of each row.
        counts: name of a question's score -> two numbers a row; NaN where a row was not asked.
        curves: arm -> FVE along the training, ``[points, 1 + kinds]``: the step count, then the FVE of each of
            ``KINDS`` (trained components only).
    """

    seed: int
    sites: tuple[str, ...]
    untrained: tuple[str, ...]
    means: Float[Tensor, "components d_model"]
    site: Int[Tensor, " n"]
    document: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    deviation: Float[Tensor, " n"]
    errors: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)
    curves: dict[str, Tensor] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """Kind of each site."""
        return [Site.parse(site).kind for site in self.sites]

    def rows_of(self, kind: str, trained: bool | None = True) -> Tensor:
        """Rows of one kind: of trained components, of untrained ones, or (``None``) of both."""
        wanted = [
            place for place, (site, its_kind) in enumerate(zip(self.sites, self.kinds, strict=True))
            if its_kind == kind and (trained is None or (site not in self.untrained) == trained)
        ]  # fmt: skip
        return torch.nonzero(torch.isin(self.site, torch.tensor(wanted, dtype=self.site.dtype))).flatten()

    def fve_by_kind(self, errors: Float[Tensor, " n"]) -> list[float]:
        """FVE of each of ``KINDS`` over trained components, NaN for kinds without any."""
        parts = [self.rows_of(kind) for kind in KINDS]
        return [
            float(1 - errors[part].sum() / self.deviation[part].sum()) if len(part) else float("nan") for part in parts
        ]

    def unrefined(self) -> "OracleRows":
        """These rows, or, where readers have refinements, the same with the errors of their linear heads instead."""
        linear = {
            arm.removeprefix(UNREFINED): errors for arm, errors in self.errors.items() if arm.startswith(UNREFINED)
        }
        others = {arm: errors for arm, errors in self.errors.items() if not arm.startswith(UNREFINED)}
        return replace(self, errors=others | linear, curves={}) if linear else self

    def only(self, kinds: Sequence[str], arms: Sequence[str] = ()) -> "OracleRows":
        """The rows of trained components of some kinds, with the errors of ``mean`` and of some other arms alone."""
        picked = torch.cat([self.rows_of(kind) for kind in kinds]).sort().values
        errors = {arm: self.errors[arm][picked] for arm in arms if arm in self.errors}
        deviation = self.deviation[picked]
        return replace(
            self, site=self.site[picked], document=self.document[picked], position=self.position[picked],
            deviation=deviation, errors={"mean": deviation, **errors}, counts={}, curves={},
        )  # fmt: skip
