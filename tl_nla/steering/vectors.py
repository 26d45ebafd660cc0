"""Steering vectors: from an edit of words, from examples, or at random; usable without the NLA."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.amounts import check_number
from tl_nla.errors import InputError
from tl_nla.finite import check_finite
from tl_nla.metrics.functional import normalise
from tl_nla.model.files import local_folder
from tl_nla.nla.inputs import check_acts
from tl_nla.nla.provenance import compared, versions
from tl_nla.outputs import check_file
from tl_nla.paths import user_path
from tl_nla.sharing import About

FILE = "steering_vector.safetensors"


@dataclass(frozen=True)
class SteeringVector:
    """A direction for the states of one site.

    Attributes:
        vector: in units in which every state has norm sqrt(d_model), so that it suits states of any norm.
        site: hook point that it was made for.
        model: name of the model.
        strength: factor that it is meant to be used with.
        provenance: of a loaded vector, with what it was saved and how that compares with what is here.
    """

    vector: Float[Tensor, " d_model"]
    site: str
    model: str = ""
    strength: float = 1.0
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.vector.ndim != 1:
            raise InputError(f"the steering vector has shape {tuple(self.vector.shape)}; give [d_model]")
        check_acts(self.vector[None], len(self.vector), "steering vectors")
        check_number("strength", self.strength)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file with its site, model and strength.

        Raises:
            InputError: when the file cannot be written there, or the vector is not finite.
        """
        made = json.dumps({"versions": versions()})
        about = {"site": self.site, "model": self.model, "strength": str(self.strength), "made": made}
        tensors = {"vector": self.vector.detach().float().contiguous()}
        check_finite(tensors, "the steering vector")
        save_file(tensors, check_file(path), metadata=about)

    @classmethod
    def load(cls, path: str | Path) -> "SteeringVector":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: when the file is missing, damaged or no steering vector.
        """
        if not user_path(path).is_file():
            raise InputError(f"no steering vector at {str(path)!r}")
        try:
            with safe_open(user_path(path), "pt") as file:
                about, vector = file.metadata() or {}, file.get_tensor("vector")
        except SafetensorError as error:
            raise InputError(f"{path} holds no steering vector: {error}") from None
        if "site" not in about:
            raise InputError(f"{path} does not say which site it is for; write it with SteeringVector.save")
        try:
            strength, made = float(about.get("strength", "1")), json.loads(about.get("made", "{}"))
        except ValueError as error:
            raise InputError(f"{path} has a damaged header ({error}); write it with SteeringVector.save") from None
        told = compared(made, {"versions": versions()}, str(path))
        return cls(vector, about["site"], about.get("model", ""), strength, told)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the vector into a folder as :meth:`from_pretrained` reads it."""
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder / FILE)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "SteeringVector":
        """Load a shared vector.

        Args:
            name: local folder or hub id.

        Raises:
            InputError: when it cannot be had or is no steering vector.

        Example:
            >>> vector = SteeringVector.from_pretrained("me/gpt2-yellow")
        """
        return cls.load(local_folder(name) / FILE)

    def about(self) -> About:
        """What a card says of the vector (:func:`tl_nla.sharing.push_to_hub`)."""
        model = self.model or "a model that is not named"
        what = (f"A steering vector of {len(self.vector)} numbers for `{self.site}` of `{model}`, in units in which "
                f"every state has norm √d_model. It is meant to be added at strength {self.strength:g}.")  # fmt: skip
        load = ('import tl_nla\nfrom tl_nla.adapters import VectorAdapter\n'
                'from tl_nla.steering import SteeringVector\n\n'
                'adapter = VectorAdapter(SteeringVector.from_pretrained("{repo}"))\n'
                "with tl_nla.attach(model, adapter):\n    model.generate(tokens)")  # fmt: skip
        made = ", ".join(f"{name} {version}" for name, version in versions().items())
        return About(what, load, self.model, f"{made}; in float32.", "steering-vector")


def vector_from_words(nla: Any, before: str, after: str, site: str, model: str = "") -> SteeringVector:
    """The difference that an edit of words makes to the reconstructor.

    Raises:
        InputError: when the two texts are the same.
    """
    if before == after:
        raise InputError("before and after are the same text; an edit that changes nothing gives no direction")
    new, old = normalise(nla.reconstruct([after, before]).float()).unbind(0)
    return SteeringVector(new - old, site, model)


def mean_difference(
    wanted: Float[Tensor, "n d_model"], others: Float[Tensor, "m d_model"], site: str, model: str = ""
) -> SteeringVector:
    """Mean of normalised states with an attribute minus mean of those without (CAA; Rimsky et al. 2024).

    Departs from the source in normalising each state first, so that the vector has the units of the others here.
    """
    return SteeringVector(normalise(wanted.float()).mean(0) - normalise(others.float()).mean(0), site, model)


def random_direction(like: SteeringVector, generator: torch.Generator) -> SteeringVector:
    """A random direction of the same norm: what any push of this size does."""
    draw = torch.randn(like.vector.shape, generator=generator)
    return SteeringVector(draw * like.vector.norm() / draw.norm(), like.site, like.model, like.strength)
