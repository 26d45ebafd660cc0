"""Rewards, advantages and losses of reinforcement learning on explanations, as pure functions.

Group relative policy optimisation (Shao et al. 2024, DeepSeekMath, section 4.1) with the reward of natural language
autoencoders (Anthropic 2026, NLA paper; released recipe: a failed extraction counts as an error of 2).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.metrics.functional import FAILED_ERROR, normalise
from tl_nla.metrics.norms import at_least_float32

SMALLEST_ERROR = 1e-8
_SPREAD = 1e-6
_LARGEST_DIFFERENCE = 12.0
"""Differences of log-probabilities above this are no longer exponentiated, so that one token cannot overflow."""


def mean_squared_errors(preds: Float[Tensor, "n d_model"], acts: Float[Tensor, "n d_model"]) -> Float[Tensor, " n"]:
    """Mean squared error per dimension of each pair of vectors normalised to sqrt(d_model): 2 (1 - cosine), 0 to 4."""
    return (normalise(at_least_float32(preds)) - normalise(at_least_float32(acts))).square().mean(-1)


def reconstruction_rewards(
    errors: Float[Tensor, " n"], extracted: Bool[Tensor, " n"], log: bool = False
) -> Float[Tensor, " n"]:
    """Reward of each explanation: minus its error, or minus the log of it.

    Args:
        errors: :func:`mean_squared_errors` of the reconstructions.
        extracted: rows whose explanation could be extracted; all others get the reward of an error of 2.
        log: minus log error (the paper's reward; slower to learn without, but better written text without).

    Returns:
        Rewards; an error that is not finite counts as failed.
    """
    failed = ~extracted | ~torch.isfinite(errors)
    errors = errors.masked_fill(failed, FAILED_ERROR)
    return -errors.clamp_min(SMALLEST_ERROR).log() if log else -errors


def bounded_exp(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The exponential up to 12, and its tangent from there on: it grows and pulls, but cannot overflow."""
    tangent = math.exp(_LARGEST_DIFFERENCE) * (1 + values - _LARGEST_DIFFERENCE)
    return torch.where(values > _LARGEST_DIFFERENCE, tangent, values.clamp_max(_LARGEST_DIFFERENCE).exp())


def length_penalties(lengths: Int[Tensor, " n"], weight: float, free: int) -> Float[Tensor, " n"]:
    """Hinged penalty: ``weight`` for every token beyond ``free``, nothing up to it."""
    return weight * (lengths - free).clamp_min(0).float()


def group_advantages(rewards: Float[Tensor, " n"], group: int, scale: bool = True) -> Float[Tensor, " n"]:
    """Rewards minus their group's mean, divided by the group's standard deviation.

    Args:
        rewards: those of one group side by side.
        group: rows a group, at least 2.
        scale: divide by the (unbiased) standard deviation; a group of equal rewards has advantages of zero either way.

    Raises:
        InputError: when the rows do not make whole groups of at least two.
    """
    if group < 2 or len(rewards) % group:
        raise InputError(f"{len(rewards)} rewards do not make groups of {group}; groups need two rows or more")
    table = rewards.view(-1, group)
    centred = table - table.mean(1, keepdim=True)
    if scale:
        centred = centred / (table.std(1, keepdim=True) + _SPREAD)
    return centred.flatten()


def k3_divergence(logprobs: Float[Tensor, "n pos"], reference: Float[Tensor, "n pos"]) -> Float[Tensor, "n pos"]:
    """Estimate of KL(policy ‖ reference) at each sampled token, never negative (Schulman 2020, estimator k3).

    A token that the reference finds unlikely costs its gap in nats, however wide, and is pulled back with a gradient
    of one. Gaps of more than 12 nats the other way grow along a straight line instead of exponentially.
    """
    difference = reference - logprobs
    return bounded_exp(difference) - difference - 1


def policy_objective(
    logprobs: Float[Tensor, "n pos"], sampled: Float[Tensor, "n pos"], advantages: Float[Tensor, " n"],
    clip: float | None = None,
) -> Float[Tensor, "n pos"]:  # fmt: skip
    """What the policy gradient minimises at each token: minus advantage times the probability ratio.

    Args:
        logprobs: under the policy that is trained, with gradient.
        sampled: under the policy that sampled, without gradient; ``logprobs.detach()`` is the on-policy gradient.
        advantages: of each row.
        clip: ratios are clipped to ``1 ± clip`` where that makes the objective worse (PPO); ``None`` does not clip.

    Raises:
        InputError: when ``clip`` is not between 0 and 1.
    """
    if clip is not None and not 0 < clip < 1:
        raise InputError(f"clip is {clip}; allowed: a number between 0 and 1 such as 0.2, or None")
    ratio, gain = bounded_exp(logprobs - sampled.detach()), advantages[:, None]
    if clip is None:
        return -ratio * gain
    return -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)


def masked_sum(values: Float[Tensor, "n pos"], mask: Bool[Tensor, "n pos"]) -> Float[Tensor, ""]:
    """Sum over the tokens of a mask, whatever stands elsewhere."""
    return torch.where(mask, values, torch.zeros_like(values)).sum()
