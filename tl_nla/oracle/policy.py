"""A diff oracle in the form of an autoencoder pair, so that what trains states by reward trains writes too."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.metrics.norms import at_least_float32, log_norm
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.generation import Generators
from tl_nla.nla.verbalizer import Generation
from tl_nla.oracle.oracle import DiffOracle
from tl_nla.oracle.questions import EXPLAIN
from tl_nla.oracle.verbalizer import AnswerSettings, WriteVerbalizer
from tl_nla.oracle.write_reconstructor import WriteReconstructor

SIZE_WEIGHT = 0.1
"""Weight of the error of the told size beside that of the direction."""


def side_by_side(before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"]) -> Float[Tensor, "n both"]:
    """States and writes as one vector a row: what :class:`WritePolicy` reads."""
    return torch.cat([before, write], -1)


def write_of(acts: Float[Tensor, "n both"]) -> Float[Tensor, "n d_act"]:
    """The writes of rows made by :func:`side_by_side`."""
    return acts[:, acts.shape[1] // 2 :]


class WritePolicy(nn.Module):
    """An oracle's free explanations as a policy over tokens: a verbalizer of rows made by :func:`side_by_side`.

    Args:
        verbalizer: of a diff oracle; shared, not copied.
    """

    def __init__(self, verbalizer: WriteVerbalizer) -> None:
        super().__init__()
        self.verbalizer = verbalizer

    @property
    def model(self) -> Any:
        """The language model."""
        return self.verbalizer.model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.verbalizer.tokenizer

    @property
    def injection(self) -> nn.Module:
        """How vectors enter."""
        return self.verbalizer.slots

    def forward(
        self, acts: Float[Tensor, "n both"], response_ids: Int[Tensor, "n pos"], response_mask: Tensor | None = None
    ) -> Float[Tensor, "n pos vocab"]:
        """Logits of each response token, teacher forced; the mask is not needed behind right padding."""
        return self.verbalizer(*self._halves(acts), response_ids)

    def generate(
        self, acts: Float[Tensor, "n both"], max_new_tokens: int = 90, temperature: float = 0.0,
        generator: Generators = None, batch_size: int = 256, samples: int = 1,
    ) -> Generation:  # fmt: skip
        """Explanations of writes; a row that hits the cap has failed.

        Args:
            acts: states and writes side by side.
            max_new_tokens: cap of a response.
            temperature: 0 is greedy.
            generator: of the samples.
            batch_size: responses generated at once.
            samples: responses a row, those of one row side by side.

        Raises:
            InputError: for vectors of a wrong size.
        """
        settings = AnswerSettings(max_new_tokens, temperature, generator, batch_size, samples=samples)
        found = self.verbalizer.sample(*self._halves(acts), EXPLAIN, settings)
        pairs = zip(found.ids.cpu(), found.mask.cpu(), strict=True)
        texts = [self.verbalizer.decode(ids[mask]) for ids, mask in pairs]
        return Generation(texts, found.finished.cpu(), found, AnswerRule("all"))

    def _halves(self, acts: Float[Tensor, "n both"]) -> tuple[Float[Tensor, "n d_act"], Float[Tensor, "n d_act"]]:
        size = self.verbalizer.d_act
        if acts.shape[1] != 2 * size:
            raise InputError(f"rows have size {acts.shape[1]}; give a state and a write of {size} side by side")
        return acts[:, :size], acts[:, size:]


class WritePair:
    """A diff oracle as a :class:`tl_nla.nla.Pair`, for training by reward.

    Args:
        oracle: its verbalizer and reconstructor are shared, not copied.
    """

    def __init__(self, oracle: DiffOracle) -> None:
        self.oracle = oracle
        self.verbalizer = WritePolicy(oracle.verbalizer)
        self.reconstructor: WriteReconstructor = oracle.reconstructor
        self.mean: Tensor | None = None

    def generate(self, acts: Float[Tensor, "n both"], max_new_tokens: int = 90, **settings: Any) -> Generation:
        """See :meth:`WritePolicy.generate`."""
        return self.verbalizer.generate(acts, max_new_tokens, **settings)

    def verbalize(self, acts: Float[Tensor, "n both"], **settings: Any) -> list[str]:
        """Explanations of states and writes side by side."""
        return self.generate(acts, **settings).texts

    def reconstruct(self, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "n d_act"]:
        """Writes read back from words."""
        return self.reconstructor.reconstruct(texts, batch_size)


def write_errors(
    reconstructor: WriteReconstructor, texts: list[str], write: Float[Tensor, "n d_act"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Errors of writes read back from words, with gradient.

    Returns:
        Squared error a dimension of the directions normalised to sqrt(d) (0 to 4), and the same plus ``SIZE_WEIGHT``
        times the squared error of the standardised log norm.
    """
    ids, mask = reconstructor.encode(texts)
    device = reconstructor.log_norm_mean.device
    direction, size = reconstructor(ids.to(device), mask.to(device))
    truth = at_least_float32(write.to(device))
    wanted = ((log_norm(truth) - reconstructor.log_norm_mean) / reconstructor.log_norm_std).clamp(-4, 4)
    errors = (normalise(direction) - normalise(truth)).square().mean(-1)
    return errors, errors + SIZE_WEIGHT * (size - wanted).square()
