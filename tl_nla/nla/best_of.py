"""A pair that says several explanations of a vector and keeps the one that its reconstructor reads back best."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.amounts import check_count, check_number
from tl_nla.errors import InputError
from tl_nla.metrics import squared_errors
from tl_nla.nla.around import AroundPair, check_pair
from tl_nla.nla.generation import Responses, join_responses
from tl_nla.nla.verbalizer import Generation


@dataclass(frozen=True)
class BestOf(AroundPair):
    """Explanations chosen among several by the pair's own reconstructor (rejection sampling, best of n).

    One explanation is greedy, the others are sampled. Kept is the one whose reconstruction has the smallest error. The
    text that the vector comes from is never seen. The cost is that of ``samples`` explanations. A choice by
    reconstruction favours words that the reconstructor reads well, whether or not they are true. Score claims beside
    FVE.

    Attributes:
        pair: a verbalizer with its reconstructor, any :class:`tl_nla.nla.protocols.Pair` such as :class:`tl_nla.NLA`.
        samples: explanations a vector, the greedy one among them.
        temperature: of the sampled ones.
        seed: of the samples. A vector's words depend on the vector and on this alone.

    Raises:
        InputError: for a number out of range, or a pair that samples no words or reads none back.

    Example:
        >>> nla = BestOf(tl_nla.load_smollm2().nla, samples=8)
        >>> nla.verbalize(states)
    """

    pair: Any
    samples: int = 8
    temperature: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        check_pair(self.pair)
        check_count("samples", self.samples)
        check_number("temperature", self.temperature, 0.0)
        check_count("seed", self.seed, None)
        if self.temperature == 0 and self.samples > 1:
            raise InputError("temperature is 0, which gives equal samples; choose a number above 0, such as 0.7")

    def generate(self, acts: Float[Tensor, "n d_model"], **settings: Any) -> Generation:
        """The best of the explanations of each vector.

        Args:
            acts: vectors ``[n, d_model]``.
            settings: of :meth:`tl_nla.nla.Verbalizer.generate`, but for temperature, samples and generator.

        Raises:
            InputError: for one of these three.
        """
        own = sorted({"temperature", "samples", "generator"} & set(settings))
        if own:
            raise InputError(f"{', '.join(own)} cannot be given to a best of {self.samples}; set them in BestOf")
        parts = [self.pair.generate(acts, **settings)]
        if self.samples > 1:
            noise = [torch.Generator().manual_seed(self.seed) for _ in acts]
            sampling = {"temperature": self.temperature, "samples": self.samples - 1, "generator": noise}
            parts.append(self.pair.generate(acts, **settings, **sampling))
        errors = torch.cat([self._errors(part, acts) for part in parts], 1)
        return _chosen(parts, errors.argmin(1).tolist(), self.samples - 1)

    def _errors(self, part: Generation, acts: Tensor) -> Float[Tensor, "n samples"]:
        """Squared errors of one row's explanations; those that could not be extracted are the last choice."""
        each = len(part.texts) // len(acts)
        read = self.pair.reconstruct(part.texts)
        errors = squared_errors(read, acts.to(read).repeat_interleave(each, 0))
        return errors.masked_fill(~part.extracted.to(errors.device), torch.inf).view(len(acts), each).cpu()


def _chosen(parts: list[Generation], best: list[int], others: int) -> Generation:
    """The chosen rows: number 0 is the greedy one, number j the j-th sample."""
    count = len(best)
    rows = [row if own == 0 else count + row * others + own - 1 for row, own in enumerate(best)]
    joined = join_responses([part.responses for part in parts], pad_id=0)
    texts = [text for part in parts for text in part.texts]
    kept = Responses(joined.ids[rows], joined.mask[rows], joined.logprobs[rows], joined.finished[rows])
    extracted = torch.cat([part.extracted for part in parts])[rows]
    return Generation([texts[row] for row in rows], extracted, kept, parts[0].answers)
