"""An NLA of one layer used at another: a learned map in front of its verbalizer, and one behind its reconstructor."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.finite import check_finite
from tl_nla.metrics.functional import normalise
from tl_nla.metrics.ridge import fit_ridge
from tl_nla.model.files import read_safetensors
from tl_nla.nla.inputs import check_acts
from tl_nla.nla.pair import NLA
from tl_nla.nla.verbalizer import Generation
from tl_nla.outputs import check_file


@dataclass(frozen=True)
class StateMap:
    """An affine map between the normalised states of two layers.

    Attributes:
        weight: applied from the right.
        bias: added.
    """

    weight: Float[Tensor, "d_in d_out"]
    bias: Float[Tensor, " d_out"]

    def __call__(self, acts: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Mapped states; their length means nothing, as an NLA reads directions only."""
        return normalise(acts.float()) @ self.weight.to(acts.device) + self.bias.to(acts.device)


def fit_map(source: Float[Tensor, "n d_in"], target: Float[Tensor, "rows d_out"], decay: float = 1e-3) -> StateMap:
    """Ridge regression from normalised states to normalised states of the same tokens, solved in float64.

    Args:
        source: states of the layer that is there.
        target: states of the layer that is wanted, at the same positions.
        decay: weight of the squared norm of the map, relative to the mean variance of the source.

    Raises:
        InputError: when the rows differ in number, or there are fewer than two.
    """
    if len(source) != len(target) or len(source) < 2:
        raise InputError(f"a map needs the same tokens on both sides, two or more; got {len(source)} and {len(target)}")
    fitted = fit_ridge(normalise(source.double()), normalise(target.double()), decay)
    return StateMap(fitted.weight.float(), (fitted.target_mean - fitted.input_mean @ fitted.weight).float())


@dataclass(frozen=True)
class AdaptedNLA:
    """An NLA of layer K that explains and rebuilds states of layer K′.

    Attributes:
        nla: the pair, left as it is.
        layer: K′.
        front: from states of K′ to states of K.
        back: from reconstructions at K to states of K′.
    """

    nla: NLA
    layer: int
    front: StateMap
    back: StateMap

    def generate(self, acts: Float[Tensor, "n d_model"], **settings: object) -> Generation:
        """Explanations of states of layer K′; settings as for :meth:`tl_nla.nla.Verbalizer.generate`."""
        check_acts(acts, self.front.weight.shape[0])
        return self.nla.generate(self.front(acts), **settings)

    def search(self, acts: Float[Tensor, "n d_model"], **settings: object) -> Generation:
        """Explanations of states of layer K′ by beam search; settings as for :meth:`tl_nla.nla.Verbalizer.search`."""
        check_acts(acts, self.front.weight.shape[0])
        return self.nla.search(self.front(acts), **settings)

    def verbalize(self, acts: Float[Tensor, "n d_model"], **settings: object) -> list[str]:
        """The texts of :meth:`generate`."""
        return self.generate(acts, **settings).texts

    def reconstruct(self, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "n d_model"]:
        """States of layer K′ read back from explanations."""
        return self.back(self.nla.reconstruct(texts, batch_size))

    def save(self, path: str | Path) -> None:
        """Write both maps (not the pair) to one safetensors file."""
        maps = {"front": self.front, "back": self.back}
        tensors = {f"{name}.{part}": getattr(one, part).contiguous() for name, one in maps.items()
                   for part in ("weight", "bias")}  # fmt: skip
        check_finite(tensors, "the adaptation")
        save_file(tensors, check_file(path), {"layer": str(self.layer), "from_layer": str(self.nla.layer)})

    @classmethod
    def load(cls, path: str | Path, nla: NLA, layer: int) -> "AdaptedNLA":
        """Read maps written by :meth:`save` for a pair.

        Raises:
            InputError: when the file is missing or damaged, or its maps are of another width than the pair.
        """
        found = read_safetensors(path)
        missing = sorted({f"{name}.{part}" for name in ("front", "back") for part in ("weight", "bias")} - set(found))
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}; it holds no maps between layers")
        front, back = (StateMap(found[f"{name}.weight"], found[f"{name}.bias"]) for name in ("front", "back"))
        if front.weight.shape[1] != nla.d_model:
            raise InputError(f"{path} maps to vectors of size {front.weight.shape[1]}, the NLA reads {nla.d_model}")
        return cls(nla, layer, front, back)


def adapt(
    nla: NLA, there: Float[Tensor, "n d_model"], here: Float[Tensor, "n d_model"], layer: int, decay: float = 1e-3
) -> AdaptedNLA:
    """Adapt an NLA to another layer by two maps, without touching a weight of it.

    Args:
        nla: trained at layer K.
        there: training states of layer K′.
        here: states of layer K of the same tokens.
        layer: K′.
        decay: of both ridge regressions.

    Returns:
        The adapted pair. The map behind is fitted on true states of K, not on reconstructions, so that it cannot make
        up for what the words leave out.
    """
    return AdaptedNLA(nla, layer, fit_map(there, here, decay), fit_map(here, there, decay))
