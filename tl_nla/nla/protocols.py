"""What code that works with any pair may ask of it."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from tl_nla.nla.verbalizer import Generation


@runtime_checkable
class Pair(Protocol):
    """A verbalizer and a reconstructor of the same vectors.

    :class:`tl_nla.NLA` is one of states, :class:`tl_nla.oracle.policy.WritePair` one of writes. Training by reward,
    benchmarks and words-only recovery take any.

    Attributes:
        verbalizer: the module that writes explanations.
        reconstructor: the module that reads its words.
        mean: mean of the normalised training vectors, the zero of every FVE; ``None`` when it is not known.
    """

    verbalizer: Any
    reconstructor: Any
    mean: Tensor | None

    def generate(self, acts: Float[Tensor, "n d_act"], **settings: Any) -> Generation:
        """Explanations with tokens, log-probabilities and which rows could be extracted."""
        ...

    def verbalize(self, acts: Float[Tensor, "n d_act"], **settings: Any) -> list[str]:
        """Explanations of vectors."""
        ...

    def reconstruct(self, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "n d_model"]:
        """Vectors read back from explanations."""
        ...
