"""Batched generation from prompts that differ in a few embeddings only.

What all rows share before the first injected vector is computed once. Finished rows leave the batch, keys and values
included (the cache keeps all positions, also of sliding-window layers, whose mask does the rest, so taking rows out is
exact). The last rows take their places, so that few are moved. Every row of a step has the same length, so no padding
and no mask is involved. The log-probabilities come from the sampling pass itself.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from tl_nla.amounts import check_count, check_number
from tl_nla.errors import InputError
from tl_nla.nla.roomy_cache import roomy_cache


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: cap; a row that reaches it without an end token is not finished.
        temperature: 0 takes the most likely token, above 0 samples.
        end_ids: tokens that end a row; the end token belongs to the response.
        beams: responses that are followed at once (:mod:`tl_nla.nla.beams`), at temperature 0.
    """

    max_new_tokens: int
    temperature: float = 0.0
    end_ids: tuple[int, ...] = ()
    beams: int = 1

    def __post_init__(self) -> None:
        check_count("max_new_tokens", self.max_new_tokens)
        check_number("temperature", self.temperature, 0.0)
        check_count("beams", self.beams)


@dataclass(frozen=True)
class Responses:
    """Generated tokens.

    Attributes:
        ids: token ids, right-padded with the pad id.
        mask: true where a token was generated.
        logprobs: log-probability in nats of each generated token under the sampling temperature (under temperature
            1 for greedy); 0 where padded.
        finished: rows that ended with an end token within the cap.
    """

    ids: Int[Tensor, "n pos"]
    mask: Bool[Tensor, "n pos"]
    logprobs: Float[Tensor, "n pos"]
    finished: Bool[Tensor, " n"]


Generators = torch.Generator | Sequence[torch.Generator] | None
"""Of samples: one for all rows, whose draws depend on the rows beside them, or one a row (on the CPU)."""
Step = Callable[[Tensor, DynamicCache], Tensor]
"""Embeddings ``[n, pos, d]`` and the cache to the logits of the last position ``[n, vocab]``."""


@dataclass(frozen=True)
class Prompts:
    """Prompts of some rows as embeddings, which differ from ``first`` on.

    Attributes:
        embeddings: ``[n, pos, d_model]``.
        first: position of the first vector; what stands before it is computed once for all rows.
        around: context manager factory for the pass over the positions from ``first`` on (additive injection).
    """

    embeddings: Float[Tensor, "n pos d_model"]
    first: int
    around: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Run:
    """How a generation is run.

    Attributes:
        generator: of the samples; required above temperature 0 for a repeatable result. With one a row, its responses
            are the same in whatever batch it stands.
        batch_size: responses generated at once.
        samples: responses a row, those of one row side by side.
        progress: show a bar on the terminal.
        processor: ids so far ``[n, pos]`` and logits ``[n, vocab]`` to the logits that are used instead, such as a
            ``LogitsProcessor`` of transformers. Log-probabilities are then those of its result.
    """

    generator: Generators = None
    batch_size: int = 256
    samples: int = 1
    progress: bool = False
    processor: Callable[[Tensor, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        check_count("samples", self.samples)


def respond(
    step: Step, embed: Callable[[Tensor], Tensor], prompts: Prompts, sampling: SamplingConfig, pad_id: int,
    run: Run | None = None,
) -> Responses:  # fmt: skip
    """Generate responses to one batch of rows; the prompt of a row is computed once for all of its samples.

    Args:
        step: one forward pass of the model.
        embed: token ids ``[n, 1]`` to embeddings ``[n, 1, d_model]``.
        prompts: of the rows.
        sampling: how tokens are chosen.
        pad_id: fills the rows that ended early.
        run: generators, samples a row and processor; its batch size is the caller's business.

    Returns:
        The responses in row order, those of one row side by side.
    """
    run = run or Run()
    cache, logits = read_prompts(step, prompts, run.samples)
    rows, device = len(logits), prompts.embeddings.device
    alive = torch.arange(rows, device=device)
    shape = (rows, sampling.max_new_tokens)
    ids = torch.full(shape, pad_id, device=device)
    logprobs = torch.zeros(shape, device=device, dtype=torch.float32)
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    finished = torch.zeros(rows, dtype=torch.bool, device=device)
    source_at = _noise_source(run.generator, run.samples, shape)
    ends = torch.tensor(sampling.end_ids, device=device, dtype=torch.long)
    for place in range(sampling.max_new_tokens):
        if run.processor is not None:
            logits = run.processor(ids[alive, :place], logits)
        chosen, chosen_logprobs = choose_tokens(logits, sampling.temperature, source_at(alive, place))
        ids[alive, place], logprobs[alive, place], mask[alive, place] = chosen, chosen_logprobs, True
        ended = torch.isin(chosen, ends)
        finished[alive[ended]] = True
        if ended.all() or place + 1 == sampling.max_new_tokens:
            break
        if ended.any():
            kept = _fewest_moves(ended)
            cache.batch_select_indices(kept)
            alive, chosen = alive[kept], chosen[kept]
        logits = step(embed(chosen[:, None]), cache)
    width = int(mask.any(0).sum())
    return Responses(ids[:, :width], mask[:, :width], logprobs[:, :width], finished)


def read_prompts(step: Step, prompts: Prompts, samples: int) -> tuple[DynamicCache, Tensor]:
    """The cache behind every prompt, once a sample, and the logits of each first response token."""
    cache, embeddings, first = roomy_cache(), prompts.embeddings, prompts.first
    if first:
        step(embeddings[:1, :first], cache)
        cache.batch_repeat_interleave(len(embeddings))
    with prompts.around() if prompts.around is not None else nullcontext():
        logits = step(embeddings[:, first:], cache)
    if samples > 1:
        cache.batch_repeat_interleave(samples)
        logits = logits.repeat_interleave(samples, 0)
    return cache, logits


def _fewest_moves(ended: Bool[Tensor, " n"]) -> Int[Tensor, " kept"]:
    """Rows that go on; the last ones stand where rows have ended, the others where they were."""
    count = int((~ended).sum())
    kept = torch.arange(count, device=ended.device)
    kept[ended[:count]] = torch.nonzero(~ended[count:]).flatten() + count
    return kept


def choose_tokens(
    logits: Float[Tensor, "n vocab"], temperature: float, source: torch.Generator | Float[Tensor, " n"] | None
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Next tokens and their log-probabilities (float32, nats).

    Args:
        logits: of the next token.
        temperature: 0 for the most likely one.
        source: what samples are drawn from, or a number in [0, 1) a row: the quantile of its distribution to take.
    """
    if temperature == 0:
        chosen = logits.argmax(-1)
        return chosen, logits.gather(-1, chosen[:, None])[:, 0].float() - logits.float().logsumexp(-1)
    logprobs = torch.log_softmax(logits.float() / temperature, -1)
    if isinstance(source, Tensor):
        below = logprobs.double().exp().cumsum(-1)
        quantile = source.to(below)[:, None] * below[:, -1:]
        chosen = torch.searchsorted(below, quantile, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)
    else:
        chosen = torch.multinomial(logprobs.exp(), 1, generator=source)[:, 0]
    return chosen, logprobs.gather(-1, chosen[:, None])[:, 0]


def draw_noise(generators: Sequence[torch.Generator], samples: int, shape: tuple[int, int]) -> Float[Tensor, "n pos"]:
    """Numbers in [0, 1), one a token of every response.

    Args:
        generators: one a row.
        samples: responses a row.
        shape: responses and tokens.

    Raises:
        InputError: when there is not one generator a row.
    """
    rows, tokens = shape
    if len(generators) * samples != rows:
        raise InputError(f"{len(generators)} generators for {rows // samples} rows; give one a row, or one for all")
    kind = torch.float32  # not the default, which Lightning changes with its precision
    return torch.cat([torch.rand(samples, tokens, generator=generator, dtype=kind) for generator in generators])


def _noise_source(
    generator: Generators, samples: int, shape: tuple[int, int]
) -> Callable[[Tensor, int], torch.Generator | Tensor | None]:
    """What chooses the tokens of some rows at a place: one generator for all, or each row's own numbers."""
    if generator is None or isinstance(generator, torch.Generator):
        return lambda _rows, _place: generator
    noise = draw_noise(generator, samples, shape)
    return lambda rows, place: noise[rows.cpu(), place]


def chunk_of(generator: Generators, start: int, stop: int) -> Generators:
    """The generators of a chunk of rows."""
    return generator if generator is None or isinstance(generator, torch.Generator) else generator[start:stop]


def join_responses(parts: list[Responses], pad_id: int) -> Responses:
    """Several chunks as one, padded to the longest."""
    width = max(part.ids.shape[1] for part in parts)

    def wide(tensor: Tensor, fill: int = 0) -> Tensor:
        return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]), value=fill)

    return Responses(
        ids=torch.cat([wide(part.ids, pad_id) for part in parts]),
        mask=torch.cat([wide(part.mask) for part in parts]),
        logprobs=torch.cat([wide(part.logprobs) for part in parts]),
        finished=torch.cat([part.finished for part in parts]),
    )
