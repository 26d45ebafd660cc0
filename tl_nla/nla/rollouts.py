"""Rollouts: several explanations of each activation, sampled at once, with their log-probabilities.

The prompt of an activation is computed once for its whole group. All prompts times the group go through the model in
one batch, and finished rows leave it (:mod:`tl_nla.nla.generation`). Where sampling happens is behind
:class:`RolloutBackend`, so that an external server can take its place.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.amounts import check_count, check_number
from tl_nla.errors import InputError
from tl_nla.nla.batching import similar_lengths
from tl_nla.nla.generation import Generators
from tl_nla.nla.verbalizer import Generation


@dataclass(frozen=True)
class RolloutConfig:
    """How explanations are sampled.

    Attributes:
        group: explanations an activation.
        max_new_tokens: cap of a response, tags included; a row that reaches it has failed.
        temperature: of sampling, and of the policy whose log-probabilities are given.
        batch_size: responses sampled at once; all when ``None``.

    Raises:
        InputError: for a group below 2, a cap below 1 or a temperature that is not above 0.
    """

    group: int = 8
    max_new_tokens: int = 150
    temperature: float = 1.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if check_count("group", self.group) < 2:
            raise InputError(f"group is {self.group}; advantages compare explanations of one activation: at least 2")
        check_count("max_new_tokens", self.max_new_tokens)
        if not check_number("temperature", self.temperature) > 0:
            raise InputError(f"temperature is {self.temperature}; rollouts are sampled: above 0, usually 1")
        if self.batch_size is not None and self.batch_size < self.group:
            raise InputError(f"batch_size is {self.batch_size}; a group of {self.group} is sampled at once, or None")


@runtime_checkable
class RolloutBackend(Protocol):
    """Samples explanations.

    The verbalizer is a :class:`tl_nla.nla.Verbalizer`, or anything with its ``generate`` and call, such as
    :class:`tl_nla.oracle.policy.WritePolicy`.

    An implementation on an external server sends ``verbalizer.prompt_embeddings`` and must return the sampled ids
    themselves with the log-probabilities of the sampling pass. The training pass measures how far its own are off.
    """

    exact: bool
    """Whether the log-probabilities are those of the trained model to rounding, so that no scoring pass is needed."""

    def sample(
        self, verbalizer: Any, acts: Float[Tensor, "n d_model"], config: RolloutConfig,
        generator: Generators = None,
    ) -> Generation:  # fmt: skip
        """``config.group`` explanations of each activation, those of one activation side by side.

        Training gives one generator an activation. So a row's explanations depend neither on the rows beside it nor on
        how rows are spread over processes. A server can take their ``initial_seed()``.
        """
        ...


class BuiltInBackend:
    """Samples with the verbalizer itself; the log-probabilities of the sampling pass are exact."""

    exact = True

    def sample(
        self, verbalizer: Any, acts: Float[Tensor, "n d_model"], config: RolloutConfig,
        generator: Generators = None,
    ) -> Generation:  # fmt: skip
        """See :class:`RolloutBackend`; in evaluation mode and without gradient."""
        return verbalizer.generate(
            acts, config.max_new_tokens, config.temperature, generator,
            config.batch_size or len(acts) * config.group, samples=config.group,
        )  # fmt: skip


def token_logprobs(
    verbalizer: Any, acts: Float[Tensor, "n d_model"], ids: Int[Tensor, "n pos"], mask: Bool[Tensor, "n pos"],
    temperature: float = 1.0,
) -> Float[Tensor, "n pos"]:  # fmt: skip
    """Log-probability in nats of given response tokens, teacher forced, with gradient; zero where the mask is false.

    Rows of similar length share a pass: a few long responses would otherwise make all rows as dear as they are.

    Args:
        verbalizer: the policy, or its frozen warm start.
        acts: one activation a row.
        ids: response tokens, right-padded.
        mask: true where a token is real.
        temperature: of the policy.
    """
    together = not getattr(verbalizer, "by_length", True)
    groups, width = [torch.arange(len(ids))] if together else similar_lengths(mask.sum(1)), ids.shape[1]
    parts = []
    for rows in groups:
        near = rows.to(ids.device)
        kept = int(mask[near].sum(1).max())
        own, real = ids[near, :kept], mask[near, :kept]
        logits = verbalizer(acts[rows.to(acts.device)], own, real).float() / temperature
        chosen = torch.log_softmax(logits, -1).gather(-1, own.to(logits.device)[..., None])[..., 0]
        chosen = torch.where(real.to(chosen.device), chosen, torch.zeros_like(chosen))
        parts.append(torch.nn.functional.pad(chosen, (0, width - kept)))
    return torch.cat(parts)[torch.cat(groups).argsort().to(parts[0].device)]


def draw_budgets(
    generators: Sequence[torch.Generator], group: int, low: int, high: int, log: bool = False
) -> Int[Tensor, " n"]:
    """A random token budget for each group between ``low`` and ``high`` inclusive, repeated for its rows.

    Args:
        generators: one a group.
        group: its rows.
        low: smallest budget.
        high: largest budget.
        log: log-uniform instead of uniform: most budgets are small.

    Raises:
        InputError: when there is no number between the two, or a budget below 1.
    """
    if not 1 <= low <= high:
        raise InputError(f"budgets run from {low} to {high}; give 1 or more, the smaller one first")
    if log:
        shares = torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
        drawn = (low * ((high + 1) / low) ** shares).long().clamp_max(high)
    else:
        drawn = torch.cat([torch.randint(low, high + 1, (1,), generator=generator) for generator in generators])
    return drawn.repeat_interleave(group)


def cut_explanations(
    tokenizer: Any, generation: Generation, budgets: Int[Tensor, " n"]
) -> tuple[list[str], Bool[Tensor, "n pos"]]:
    """Each explanation cut to the first tokens of its budget, and which response tokens that text was read from.

    Args:
        tokenizer: the verbalizer's.
        generation: responses; a row that was not extracted gives the empty text and keeps all its tokens, since all of
            them are to blame.
        budgets: tokens of the explanation that are kept, what stands before it not counted.

    Returns:
        The texts, stripped, and a mask over the response tokens: the kept tokens and those before. A row within its
        budget keeps its last tokens too.
    """
    place, mask = torch.arange(generation.ids.shape[1]), generation.mask.cpu()
    texts, kept = [], mask.clone()
    for row, budget in enumerate(budgets.tolist()):
        if not generation.extracted[row]:
            texts.append("")
            continue
        ids, text = generation.ids[row].cpu()[mask[row]].tolist(), generation.texts[row]
        whole = tokenizer.decode(ids)
        begins = generation.answers.begins(whole)
        start = whole.find(text, begins)
        opened = _tokens_before(tokenizer, ids, max(start, begins))
        part = tokenizer.decode(ids[: opened + budget])
        # An explanation that was put together from several lines does not stand in its response as one piece.
        texts.append(generation.answers.extract(part) or "" if start < 0 else part[start:][: len(text)].strip())
        if texts[-1] != text:
            kept[row] &= place < opened + budget
    return texts, kept


def _tokens_before(tokenizer: Any, ids: list[int], place: int) -> int:
    """How many first tokens end at a character of the text or before it."""
    return bisect_right(range(1, len(ids) + 1), place, key=lambda count: len(tokenizer.decode(ids[:count])))
