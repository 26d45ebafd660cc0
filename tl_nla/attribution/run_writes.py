"""The states and writes of a clean run, at the columns that it was kept at, without another pass."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tl_nla.attribution.clean_run import CleanRun
from tl_nla.errors import InputError
from tl_nla.model.reading import points_of, site_values, state_before
from tl_nla.model.sites import Site


@dataclass(frozen=True)
class RunWrites:
    """What each component of a run wrote, one row a batch row and column.

    Attributes:
        model: the model that was run.
        clean: its run, captured with its heads.
        sites: the writes that are told of.
    """

    model: Any
    clean: CleanRun
    sites: tuple[Site, ...]

    def __len__(self) -> int:
        return self.clean.tokens.numel()

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns of the prompt."""
        return self.clean.places

    def write(self, site: Site) -> Float[Tensor, "n d_model"]:
        """What a component adds to the stream, in float32.

        Raises:
            InputError: when the writes of its heads do not add up, or a hook point of the component did not fire.
        """
        if site.kind == "head" and (int(site.layer or 0), site.part) in self.clean.sums:
            return self._of_head(site)
        missing = [name for name in points_of(self.model, site, self.clean.kept) if name not in self.clean.kept]
        if missing:
            raise InputError(f"{missing[0]} never fired, so {site} cannot be read on {type(self.model).__name__}")
        if site.kind == "head":
            return self._of_head(site)
        return site_values(self.model, site, self.clean.rows(int(site.layer or 0))).float()

    def _of_head(self, site: Site) -> Float[Tensor, "n d_model"]:
        found = self.clean.head_sum(self.model, int(site.layer or 0), site.part)
        return found.writes([int(site.head or 0)])[:, 0]

    def before(self, site: Site) -> Float[Tensor, "n d_model"]:
        """The state that it is added to, in float32."""
        return self.clean.kept[state_before(self.model, site, self.clean.kept)].flatten(0, 1).float()
