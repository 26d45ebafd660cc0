"""How well a reconstructor rebuilds states from texts: the one number behind every measure of this package."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.metrics import normalise, squared_deviations, squared_errors

Reconstruct = Callable[[list[str]], Tensor]
"""Texts to vectors ``[n, d_model]``, such as ``nla.reconstruct`` or a :class:`tl_nla.nla.Reconstructor`'s."""


@dataclass(frozen=True)
class Scorer:
    """Scores texts against the states that they are meant to explain.

    Errors are ``|p - g|^2`` of vectors normalised to sqrt(d_model), divided by the mean ``|g - m|^2`` of all states.
    The mean error of some texts is 1 - FVE, and a difference of 0.01 is one point of FVE. The mean m is that of the
    training set's normalised states.

    Attributes:
        reconstruct: reads texts.
        acts: the states.
        mean: m.
    """

    reconstruct: Reconstruct
    acts: Float[Tensor, "n d_model"]
    mean: Float[Tensor, " d_model"]

    def __post_init__(self) -> None:
        """Refuse states that do not vary."""
        if not len(self.acts) or not float(self.deviations.sum()) > 0:
            raise InputError(f"{len(self.acts)} states that do not differ from the mean cannot be scored; give others")

    @property
    def deviations(self) -> Float[Tensor, " n"]:
        """Squared distance of each normalised state to the mean: the denominators of FVE, one a row."""
        return squared_deviations(self.acts, self.mean)

    def errors(self, texts: Sequence[str], rows: Int[Tensor, " m"] | None = None) -> Float[Tensor, " m"]:
        """Error of each text; equal texts are read once.

        Args:
            texts: what is read.
            rows: the state of each text; text i explains state i when ``None``.

        Raises:
            InputError: when texts and states differ in number.
        """
        acts = self.acts if rows is None else self.acts[rows]
        if len(texts) != len(acts):
            raise InputError(f"{len(texts)} texts for {len(acts)} states: give one text a state")
        if not texts:
            return torch.zeros(0, dtype=torch.float64)
        distinct = list(dict.fromkeys(texts))
        places = {text: place for place, text in enumerate(distinct)}
        vectors = self.reconstruct(distinct)[[places[text] for text in texts]]
        return squared_errors(vectors, acts) / self.deviations.mean()

    def fve(self, texts: Sequence[str]) -> float:
        """Fraction of variance explained by one text a state."""
        return 1 - float(self.errors(texts).mean())

    def reading_with(self, reconstruct: Reconstruct) -> "Scorer":
        """The same states read by another reconstructor."""
        return Scorer(reconstruct, self.acts, self.mean)


def training_mean(acts: Float[Tensor, "n d_model"]) -> Float[Tensor, " d_model"]:
    """Mean of normalised training states: the zero of FVE."""
    return normalise(acts).double().mean(0).float()


def by_document(values: Float[Tensor, " n"], documents: Int[Tensor, " n"]) -> Float[Tensor, " documents"]:
    """Mean of the rows of each document, in ascending order of the documents' numbers."""
    _, index = documents.unique(return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1, dtype=torch.float64).index_add_(0, index, values.double())
    return sums / index.bincount()
