"""How training by reward steps: learning rates, and what is done with the rollouts of a batch."""

from dataclasses import dataclass

from lightning_modules.training.schedules import check_rates
from tl_nla.amounts import check_count, check_counts, check_number
from tl_nla.errors import InputError
from tl_nla.nla.rollouts import RolloutBackend

_LAST_SHARE = 0.1


@dataclass(frozen=True)
class RateConfig:
    """Learning rates of both parts.

    Attributes:
        learning_rate: of the verbalizer.
        reconstructor_learning_rate: of the reconstructor; about 5 times the verbalizer's in the literature.
        warmup_steps: steps over which both learning rates rise.
        decay_steps: step at which both have fallen linearly to a tenth; constant when ``None``.
        decay_from: step at which they begin to fall.
        gradient_clip: largest norm of each part's gradient.

    Raises:
        InputError: for a rate that is not above 0, or a decay that ends before it begins.
    """

    learning_rate: float = 1e-5
    reconstructor_learning_rate: float = 5e-5
    warmup_steps: int = 0
    decay_steps: int | None = None
    decay_from: int = 0
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        check_rates(
            learning_rate=self.learning_rate, reconstructor_learning_rate=self.reconstructor_learning_rate,
            gradient_clip=self.gradient_clip,
        )  # fmt: skip
        check_count("warmup_steps", self.warmup_steps, 0)
        if self.decay_steps is not None and not 0 <= self.decay_from < self.decay_steps:
            raise InputError(
                f"decay_from is {self.decay_from}; it must be at least 0 and below decay_steps ({self.decay_steps})"
            )

    def at(self, step: int) -> list[float]:
        """Learning rates of verbalizer and reconstructor at a step."""
        factor = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay_steps:
            fallen = max(0, step - self.decay_from) / (self.decay_steps - self.decay_from)
            factor *= max(_LAST_SHARE, 1 - (1 - _LAST_SHARE) * fallen)
        return [factor * rate for rate in (self.learning_rate, self.reconstructor_learning_rate)]


@dataclass(frozen=True)
class PolicyConfig:
    """What is done with the rollouts of a batch.

    Attributes:
        kl_weight: weight of the k3 divergence from the warm start.
        clip: PPO's clipping of probability ratios; matters with ``updates`` above 1 or an inexact backend.
        updates: policy steps on the same rollouts.
        accumulate: batches whose gradients are summed up before a step (the Trainer's own setting is for automatic
            optimisation only).
        seed: of sampling and budgets. Every row draws from (seed, step, its number in the global batch). So a resumed
            run repeats itself and several processes draw what one would.
        backend: where sampling happens; the verbalizer itself when ``None``.
        micro_batch: most explanations in one backward pass; the whole batch when ``None``. Gradients are those of the
            whole batch; memory follows this number. Sampling has ``RolloutConfig.batch_size``.
        gradient_checkpointing: compute activations inside blocks again on the way back instead of keeping them. It
            costs about a third more time for a training pass, and keeps the memory of one block.

    Raises:
        InputError: for a number out of range, or updates together with accumulated batches.
    """

    kl_weight: float = 0.01
    clip: float | None = None
    updates: int = 1
    accumulate: int = 1
    seed: int = 0
    backend: RolloutBackend | None = None
    micro_batch: int | None = None
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_number("kl_weight", self.kl_weight, 0.0)
        check_counts(self, "updates", "accumulate")
        if self.micro_batch is not None:
            check_count("micro_batch", self.micro_batch)
        if self.updates > 1 and self.accumulate > 1:
            raise InputError(f"updates is {self.updates} and accumulate {self.accumulate}; one of them must be 1")
