"""A diff oracle in the form of an autoencoder pair, so that what trains states by reward trains writes too."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.metrics.norms import at_least_float32, log_norm
from tl_nla.nla.batching import evaluating
from tl_nla.nla.generation import Generators, Responses, SamplingConfig, chunk_of, join_responses, respond
from tl_nla.nla.verbalizer import Generation
from tl_nla.oracle.oracle import DiffOracle
from tl_nla.oracle.questions import EXPLAIN
from tl_nla.oracle.reader import Reader
from tl_nla.oracle.write_reconstructor import WriteReconstructor

SIZE_WEIGHT = 0.1
"""Weight of the error of the told size beside that of the direction."""


def side_by_side(before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"]) -> Float[Tensor, "n both"]:
    """States and writes as one vector a row: what :class:`ReaderPolicy` reads."""
    return torch.cat([before, write], -1)


def write_of(acts: Float[Tensor, "n both"]) -> Float[Tensor, "n d_act"]:
    """The writes of rows made by :func:`side_by_side`."""
    return acts[:, acts.shape[1] // 2 :]


class ReaderPolicy(nn.Module):
    """The reader's free explanations as a policy over tokens.

    Args:
        reader: of a diff oracle; shared, not copied.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    @property
    def model(self) -> Any:
        """The language model."""
        return self.reader.model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.reader.tokenizer

    @property
    def injection(self) -> nn.Module:
        """How vectors enter."""
        return self.reader.slots

    def forward(
        self, acts: Float[Tensor, "n both"], response_ids: Int[Tensor, "n pos"], response_mask: Tensor | None = None
    ) -> Float[Tensor, "n pos vocab"]:
        """Logits of each response token, teacher forced; the mask is not needed behind right padding."""
        half = acts.shape[1] // 2
        return self.reader(acts[:, :half], acts[:, half:], response_ids)

    @torch.no_grad()
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
        reader, half = self.reader, acts.shape[1] // 2
        if acts.shape[1] != 2 * reader.d_act:
            raise InputError(f"rows have size {acts.shape[1]}; give a state and a write of {reader.d_act} side by side")
        stops = {reader.end_id, reader.tokenizer.eos_token_id} - {None}
        sampling = SamplingConfig(max_new_tokens, temperature, tuple(sorted(stops)))
        first, embed = reader.prompts[EXPLAIN].places[0], reader.model.get_input_embeddings()

        def step(embeddings: Tensor, cache: Any) -> Tensor:
            output = reader.model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return output.logits[:, -1]

        parts: list[Responses] = []
        size = max(1, batch_size // samples)
        with evaluating(self):
            for start in range(0, len(acts), size):
                rows = acts[start : start + size]
                prompt = reader.prompt_embeddings(rows[:, :half], rows[:, half:])
                shared, own = prompt[:1, :first], prompt[:, first:]
                chosen = chunk_of(generator, start, start + size)
                parts.append(respond(step, embed, shared, own, sampling, reader.pad_id, chosen, samples=samples))
        found = join_responses(parts, reader.pad_id)
        texts = [reader.decode(ids[mask]) for ids, mask in zip(found.ids.cpu(), found.mask.cpu(), strict=True)]
        return Generation(texts, found.finished.cpu(), found)


class WritePair:
    """A diff oracle with the methods of :class:`tl_nla.nla.NLA` that training by reward needs.

    Args:
        oracle: its reader and reconstructor are shared, not copied.
    """

    def __init__(self, oracle: DiffOracle) -> None:
        self.oracle = oracle
        self.verbalizer = ReaderPolicy(oracle.reader)
        self.reconstructor: WriteReconstructor = oracle.reconstructor
        self.mean: Tensor | None = None

    def generate(self, acts: Float[Tensor, "n both"], max_new_tokens: int = 90, **settings: Any) -> Generation:
        """See :meth:`ReaderPolicy.generate`."""
        return self.verbalizer.generate(acts, max_new_tokens, **settings)

    def reconstruct(self, texts: list[str]) -> Float[Tensor, "n d_act"]:
        """Writes read back from words."""
        return self.reconstructor.reconstruct(texts)


def write_errors(
    reconstructor: WriteReconstructor, texts: list[str], write: Float[Tensor, "n d_act"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Errors of writes read back from words, with gradient.

    Args:
        reconstructor: that reads.
        texts: one a write.
        write: the right writes.

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
