"""What a component always writes, so that a label can say what this write has beside it.

A head's writes share a large constant part. Words for the whole write mostly repeat it; words for the difference from
the component's own mean tell one write from the next. The mean is that of normalised writes, as in FVE.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError, unknown
from tl_nla.metrics import normalise
from tl_nla.model.files import read_safetensors
from tl_nla.model.sites import Site
from tl_nla.outputs import check_file


@dataclass(frozen=True)
class UsualWrites:
    """The mean write of each component.

    Attributes:
        means: by the site's text, the mean of its writes after each was scaled to the norm √d_model, float32.
    """

    means: Mapping[str, Float[Tensor, " d_model"]]

    @classmethod
    def measure(cls, writes: Mapping[str, Float[Tensor, "n d_model"]]) -> "UsualWrites":
        """Measure the means on training documents.

        Raises:
            InputError: when there is no site, or a site has no write.
        """
        if not writes or not all(len(rows) for rows in writes.values()):
            raise InputError(f"writes of {len(writes)} sites were given, some without rows; each needs at least one")
        return cls({site: normalise(rows.float()).mean(0) for site, rows in writes.items()})

    def beside(self, site: Site | str, write: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """What writes have beside the mean: their directions at norm √d_model minus the site's mean, float32.

        Raises:
            InputError: for a site whose mean was not measured.

        Example:
            >>> usual = UsualWrites.measure({"blocks.3.attn.head.0": training_writes})
            >>> write_effects(lens, usual.beside("blocks.3.attn.head.0", write), before, vocabulary)
        """
        if str(site) not in self.means:
            raise unknown("site of the usual writes", str(site), self.means)
        return normalise(write.float()) - self.means[str(site)].to(write.device)

    def save(self, path: str | Path) -> None:
        """Write them as safetensors."""
        tensors = {site: mean.detach().float().cpu().contiguous() for site, mean in self.means.items()}
        save_file(tensors, check_file(path))

    @classmethod
    def load(cls, path: str | Path) -> "UsualWrites":
        """Read saved means.

        Raises:
            InputError: when the file is missing or damaged.
        """
        return cls(read_safetensors(path))
