"""A pair whose explanations are found by beam search."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.nla.around import AroundPair, check_pair
from tl_nla.nla.verbalizer import Generation


@dataclass(frozen=True)
class BeamSearch(AroundPair):
    """Explanations that are the likeliest as a whole, as far as a beam search finds them.

    Greedy words are the likeliest one after the other, and the explanation that they make is often not the likeliest.
    The reconstructor takes no part: unlike with :class:`tl_nla.nla.BestOf`, the words are the verbalizer's own choice.
    The cost is about that of ``beams`` explanations. ``docs/studies/smollm2_nla/README.md`` has the gain on SmolLM2.

    Attributes:
        pair: a pair with a ``search``, such as :class:`tl_nla.NLA`.
        beams: beginnings of an explanation that are followed at once.

    Raises:
        InputError: for a number below 1, or a pair that cannot search.

    Example:
        >>> nla = BeamSearch(tl_nla.load_smollm2().nla, beams=4)
        >>> nla.verbalize(states)
    """

    pair: Any
    beams: int = 4

    def __post_init__(self) -> None:
        check_pair(self.pair)
        check_count("beams", self.beams)
        if isinstance(self.pair, AroundPair) or not hasattr(self.pair, "search"):
            raise InputError(f"{type(self.pair).__name__} has no beam search; give an NLA, and wrap the BeamSearch")

    def generate(self, acts: Float[Tensor, "n d_model"], **settings: Any) -> Generation:
        """The likeliest explanation of each vector.

        Args:
            acts: vectors ``[n, d_model]``.
            settings: of :meth:`tl_nla.nla.Verbalizer.search`, but for beams.

        Raises:
            InputError: for what belongs to sampling, such as a temperature.
        """
        other = sorted(set(settings) - {"max_new_tokens", "batch_size", "progress"})
        if other:
            raise InputError(f"{', '.join(other)} cannot be given to a beam search; leave it out")
        return self.pair.search(acts, beams=self.beams, **settings)
