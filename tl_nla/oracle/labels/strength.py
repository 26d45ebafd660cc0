"""How strong a write is: its norm relative to the state, as a percentile and as one of eight steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError, unknown
from tl_nla.model.files import read_safetensors
from tl_nla.model.sites import Site
from tl_nla.outputs import check_file

STEPS = ("nothing", "faint", "one", "two", "three", "four", "five", "huge")
"""The strength words: "nothing" for a write too small against its state to matter, then seven steps of equal ratio."""
_POINTS = 101
_SMALLEST = 1e-12
_RANGE = "range"


@dataclass(frozen=True)
class StrengthReference:
    """What is usual: quantiles of relative norms for each site, and the range of norms over all sites.

    Attributes:
        quantiles: for each site the 0th to 100th percentile of ``||write|| / ||state before||``, ascending.
        low: norm, in model units, at which the seven steps begin (2nd percentile over all sites).
        high: norm at which they end (98th percentile).
        nothing_below: relative norm below which a write counts as nothing.
    """

    quantiles: Mapping[str, Float[Tensor, " points"]]
    low: float
    high: float
    nothing_below: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < float("inf"):
            raise InputError(f"the range of norms is {self.low} to {self.high}; give two positive ones, smaller first")
        if not 0 <= self.nothing_below < 1:
            raise InputError(f"nothing_below is {self.nothing_below}; allowed: a ratio of 0 or above, below 1")

    @classmethod
    def measure(cls, writes: Mapping[str, tuple[Tensor, Tensor]], nothing_below: float = 0.01) -> "StrengthReference":
        """Measure a reference on training documents.

        Args:
            writes: for each site, by text, its writes and the states before them, both ``[n, d_model]``.
            nothing_below: relative norm below which a write counts as nothing.

        Raises:
            InputError: when there is no site, or all writes are zero.
        """
        if not writes:
            raise InputError("no writes were given to measure strengths on; at least one site is needed")
        points = torch.linspace(0, 1, _POINTS)
        quantiles = {site: relative_norm(*pair).quantile(points.to(pair[0].device)) for site, pair in writes.items()}
        norms = torch.cat([write.float().norm(dim=-1) for write, _ in writes.values()])
        norms = norms[norms > 0]
        if not len(norms):
            raise InputError("all writes are zero; strengths cannot be compared")
        low, high = norms.quantile(torch.tensor([0.02, 0.98]).to(norms)).tolist()
        return cls(quantiles, low, max(high, low * 1.0001), nothing_below)

    def percentile(
        self, site: Site | str, write: Float[Tensor, "n d_model"], before: Float[Tensor, "n d_model"]
    ) -> Float[Tensor, " n"]:
        """Percentile (0 to 100) of each relative norm among those of the site, linear between the stored points.

        Raises:
            InputError: for a site without a reference.
        """
        if str(site) not in self.quantiles:
            raise unknown("site of the strength reference", str(site), self.quantiles)
        ratio = relative_norm(write, before)
        known = self.quantiles[str(site)].to(ratio)
        upper = torch.searchsorted(known, ratio).clamp(1, len(known) - 1)
        low, high = known[upper - 1], known[upper]
        share = ((ratio - low) / (high - low).clamp_min(_SMALLEST)).clamp(0, 1)
        return (upper - 1 + share) * (100.0 / (len(known) - 1))

    def step(self, write: Float[Tensor, "n d_model"], before: Float[Tensor, "n d_model"]) -> Int[Tensor, " n"]:
        """Index into ``STEPS``: 0 below ``nothing_below``, else 1 to 7 by the logarithm of the norm."""
        norm = write.float().norm(dim=-1).clamp_min(_SMALLEST)
        low = torch.tensor(self.low, device=norm.device).log()
        high = torch.tensor(self.high, device=norm.device).log()
        place = (norm.log() - low) / (high - low) * (len(STEPS) - 1)
        step = 1 + place.floor().clamp(0, len(STEPS) - 2).long()
        return step.masked_fill(relative_norm(write, before) < self.nothing_below, 0)

    def save(self, path: str | Path) -> None:
        """Write it as safetensors."""
        tensors = {site: value.detach().float().cpu().contiguous() for site, value in self.quantiles.items()}
        tensors[_RANGE] = torch.tensor([self.low, self.high, self.nothing_below], dtype=torch.float64)
        save_file(tensors, check_file(path))

    @classmethod
    def load(cls, path: str | Path) -> "StrengthReference":
        """Read a saved reference.

        Raises:
            InputError: when the file is missing, damaged or no strength reference.
        """
        tensors = read_safetensors(path)
        bounds = tensors.pop(_RANGE, None)
        if bounds is None or bounds.shape != (3,):
            raise InputError(f"{path} is no strength reference; it lacks the {_RANGE!r} of norms")
        low, high, nothing = bounds.tolist()
        return cls(tensors, low, high, nothing)


def relative_norm(write: Float[Tensor, "n d_model"], before: Float[Tensor, "n d_model"]) -> Float[Tensor, " n"]:
    """``||write|| / ||state before||``, in float32."""
    return write.float().norm(dim=-1) / before.float().norm(dim=-1).clamp_min(_SMALLEST)
