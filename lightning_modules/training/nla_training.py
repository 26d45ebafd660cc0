"""Joint reinforcement learning of a pair: the verbalizer by policy gradient, the reconstructor by regression."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_modules.processes import denominators, rank, sums, world_size
from lightning_modules.sharding import gathered, whole
from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from lightning_modules.training.policy_losses import Backward, Experience, LossShares, in_order
from lightning_modules.training.precision import quick_attention
from lightning_modules.training.trained_only import TrainedOnly
from tl_nla.errors import InputError
from tl_nla.metrics import FractionOfVarianceExplained
from tl_nla.model.checkpointing import checkpointed
from tl_nla.nla import NLA
from tl_nla.nla.batching import micro_batches
from tl_nla.nla.policy import (
    group_advantages,
    k3_divergence,
    length_penalties,
    masked_sum,
    mean_squared_errors,
    policy_objective,
    reconstruction_rewards,
)
from tl_nla.nla.protocols import Pair
from tl_nla.nla.reference import FrozenReference, LoraSettings, add_lora, float32_masters
from tl_nla.nla.rollouts import (
    BuiltInBackend,
    RolloutConfig,
    cut_explanations,
    draw_budgets,
    token_logprobs,
)
from tl_nla.paths import user_path
from tl_nla.plugins import embedded

_SKIPS_IN_A_ROW = 20


@dataclass(frozen=True)
class RewardConfig:
    """What an explanation is rewarded for.

    Attributes:
        log: minus log error instead of minus error.
        length_penalty: for every token beyond ``length_free``; 0 for none.
        length_free: tokens of a response that cost nothing.
        budget_from: smallest prefix budget in tokens. With it, the reward is that of the explanation cut at a random
            budget shared by the group, up to ``budget_to``, so that what matters most is said first. ``None``: whole.
        budget_to: largest prefix budget; the cap on new tokens when ``None``.
        budget_log: budgets are log-uniform, so that most are small and some are not, instead of uniform.
        scale_advantages: divide by the group's standard deviation.
    """

    log: bool = False
    length_penalty: float = 0.0
    length_free: int = 86
    budget_from: int | None = None
    budget_to: int | None = None
    budget_log: bool = False
    scale_advantages: bool = True

    def __post_init__(self) -> None:
        if self.length_penalty < 0 or self.length_free < 0:
            found = f"length_penalty {self.length_penalty} and length_free {self.length_free}"
            raise InputError(f"{found}: neither can be negative")
        if self.budget_from is not None and self.budget_from < 1:
            raise InputError(f"budget_from is {self.budget_from}; a budget is at least 1 token, or None for no budget")


class NLATraining(TrainedOnly):
    """Reinforcement learning on explanations after a warm start (Anthropic 2026, NLA paper; GRPO, Shao et al. 2024).

    A batch's activations get ``rollouts.group`` explanations each. The reward is minus the squared error of the vector
    that the reconstructor reads from an explanation. A failed or truncated one counts as an error of 2. In the same
    step, on the same explanations, the reconstructor learns to read them better; no gradient goes from it to the words.
    One optimiser with a parameter group a part (so that the Trainer's steps are steps), trained weights in float32.
    Means run over the tokens and rows of all processes; batches that are accumulated weigh the same.

    Args:
        model: the warm-started pair when ``nla`` is not given: ``"tiny"`` (the embedded one), or a folder with ``av``
            and ``ar``.
        nla: the warm-started pair itself, any :class:`tl_nla.nla.protocols.Pair`: a :class:`tl_nla.NLA`, or
            :class:`tl_nla.oracle.policy.WritePair`.
        rollouts: how explanations are sampled.
        reward: what they are rewarded for.
        rates: learning rates and their course.
        policy: weight of the divergence, updates, seed and sampling backend.
        lora: train adapters on both parts instead of all weights.
    """

    trains_in = ("32-true", "64-true", "bf16-mixed")
    needs: str | None = "states"
    nla: Any
    frozen: Any
    mean: Any

    def __init__(
        self, model: str = "tiny", nla: NLA | Pair | None = None, rollouts: RolloutConfig | None = None,
        reward: RewardConfig | None = None, rates: RateConfig | None = None, policy: PolicyConfig | None = None,
        lora: LoraSettings | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.automatic_optimization = False
        self.rollouts, self.reward = rollouts or RolloutConfig(), reward or RewardConfig()
        self.rates, self.policy = rates or RateConfig(), policy or PolicyConfig()
        self.backend = self.policy.backend or BuiltInBackend()
        pair: Any = nla or load_pair(model, torch.float32 if lora is None else lora.torch_dtype or torch.float32)
        if lora is not None:
            add_lora(pair, lora)
        float32_masters((pair.verbalizer, pair.reconstructor))
        object.__setattr__(self, "nla", pair)
        self.verbalizer, self.reconstructor = pair.verbalizer.train(), pair.reconstructor.train()
        object.__setattr__(self, "frozen", FrozenReference(pair.verbalizer) if self.policy.kl_weight else None)
        self.batches = self.skipped = self._skipped_in_a_row = 0
        self.fve: FractionOfVarianceExplained | None = None

    def data_site(self) -> str | None:
        """Output of the pair's layer; writes are not of one site."""
        return self.nla.site if isinstance(self.nla, NLA) else None

    def data_width(self) -> int | None:
        """Size of the pair's vectors."""
        return self.nla.d_model if isinstance(self.nla, NLA) else None

    def setup(self, stage: str) -> None:
        """Take the training-set mean from the data module, or from the pair."""
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        mean = getattr(data, "mean", None)
        self.mean = self.nla.mean if mean is None else mean
        self.fve = FractionOfVarianceExplained(mean=self.mean)

    def on_fit_start(self) -> None:
        """Check the master weights and move the frozen reference to the trained model's device."""
        masters = (torch.float32, torch.float64)
        low = next((p.dtype for p in self.parameters() if p.requires_grad and p.dtype not in masters), None)
        if low is not None:
            raise InputError(f"trained weights are {low}; keep them float32 and use precision='bf16-mixed' instead")
        if self.frozen is not None:
            self.frozen.to(self.device)

    def on_train_start(self) -> None:
        """Check that the batches of the run make a step.

        Raises:
            InputError: when they do not.
        """
        epochs, wanted = self.trainer.max_epochs or -1, self.policy.accumulate
        if 0 <= epochs * self.trainer.num_training_batches < wanted:
            raise InputError(
                f"{epochs} epochs of {self.trainer.num_training_batches} batches make no step of {wanted} "
                "batches; give a smaller accumulate, or more epochs or rows"
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Without dropout: the log-probabilities of sampling and of training are then those of one policy."""
        self.verbalizer.eval()
        self.reconstructor.eval()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Sample, read back, reward, and step both parts."""
        experience = self.explore(batch["acts"])
        for _ in range(self.policy.updates):
            with quick_attention(self):
                loss, logs = self.losses(experience, self._send_back)
            if (self.batches + 1) % self.policy.accumulate == 0:
                logs |= self._step(self.optimizers(), loss)
        self.batches += 1
        logs |= {"extraction_rate": experience.generation.extracted.float().mean(), "skipped": float(self.skipped)}
        logs["length"] = experience.generation.mask.sum(1).float().mean()
        bars = ("reward", "extraction_rate")
        size = len(batch["acts"])
        for name, value in logs.items():
            self.log(f"train/{name}", value, prog_bar=name in bars, batch_size=size, sync_dist=True)

    @torch.no_grad()
    def explore(self, acts: Float[Tensor, "n d_model"]) -> Experience:
        """Explanations of each activation, cut to their budget if there is one, and the warm start's view of them."""
        config, reward = self.rollouts, self.reward
        with gathered(self.verbalizer):
            generation = self.backend.sample(self.verbalizer, acts, config, self._generators(len(acts)))
        rows = acts.repeat_interleave(config.group, 0)
        texts, credited = [t if ok else "" for t, ok in zip(generation.texts, generation.extracted, strict=True)], None
        if reward.budget_from is not None:
            high = min(reward.budget_to or config.max_new_tokens, config.max_new_tokens)
            draws = self._generators(len(acts), 1)
            budgets = draw_budgets(draws, config.group, reward.budget_from, high, reward.budget_log)
            texts, credited = cut_explanations(self.verbalizer.tokenizer, generation, budgets)
        mask = generation.mask.to(acts.device)
        credited = mask if credited is None else credited.to(acts.device)
        return Experience(rows, generation, texts, credited, self._reference(rows, generation.ids, mask))

    def _reference(
        self, acts: Float[Tensor, "n d_model"], ids: Int[Tensor, "n pos"], mask: Bool[Tensor, "n pos"]
    ) -> Float[Tensor, "n pos"] | None:
        """The warm start's log-probabilities, in the passes in which the policy's are computed."""
        if self.frozen is None:
            return None
        ids, rows = ids.to(acts.device), micro_batches(mask.sum(1), self.policy.micro_batch)
        places = [at.to(acts.device) for at in rows]
        parts = [self.frozen.logprobs(acts[at], ids[at], mask[at], self.rollouts.temperature) for at in places]
        return in_order(parts, rows)

    def _send_back(self, share: Float[Tensor, ""], last: bool) -> None:
        """A backward pass; processes exchange gradients in the last one of a step."""
        alone = nullcontext if last else getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        with alone():
            self.manual_backward(share / self.policy.accumulate)

    def _recomputing(self) -> AbstractContextManager[None]:
        if not self.policy.gradient_checkpointing:
            return nullcontext()
        return checkpointed((self.verbalizer.model, self.reconstructor.backbone))

    def losses(self, found: Experience, backward: Backward | None = None) -> tuple[Tensor, dict[str, Any]]:
        """The loss of both parts (their gradients do not meet) and what is logged.

        Args:
            found: the rollouts.
            backward: takes the loss in shares, one a micro-batch; the loss that is given back is then without gradient.
        """
        generation, reward, device = found.generation, self.reward, found.acts.device
        mask, extracted = generation.mask.to(device), generation.extracted.to(device)
        tokens, spoken, read = denominators(found.credited.sum(), mask.sum(), extracted.sum())
        rows, shares = micro_batches(mask.sum(1), self.policy.micro_batch), LossShares(backward)
        with self._recomputing():
            errors, regression = self._read_back(found, rows, read, shares)
            rewards = reconstruction_rewards(errors, extracted, reward.log)
            if reward.length_penalty:
                rewards = rewards - length_penalties(mask.sum(1), reward.length_penalty, reward.length_free)
            advantages = group_advantages(rewards, self.rollouts.group, reward.scale_advantages)
            logs = self._policy_losses(found, rows, advantages, (tokens, spoken), shares)
        failed = errors.masked_fill(~extracted, 2.0)
        logs |= {
            "reward": rewards.mean(), "reward_deviation": rewards.view(-1, self.rollouts.group).std(1).mean(),
            "reconstruction_loss": regression, "fve": self._fraction(failed, found.acts),
        }  # fmt: skip
        return shares.end(), logs

    def _read_back(
        self, found: Experience, rows: list[Tensor], count: Tensor, shares: LossShares
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, ""]]:
        """Errors of what is read back, and the loss of the reconstructor; both without gradient."""
        extracted = found.generation.extracted
        parts, total = [], torch.zeros((), device=found.acts.device)
        for at in rows:
            errors, trained = self.read_errors(
                [found.texts[row] for row in at.tolist()], found.acts[at.to(total.device)]
            )
            share = trained[extracted[at].to(trained.device)].sum() / count
            parts.append(errors.detach())
            total = total + share.detach()
            shares.add(share, hold=at is rows[-1])
        return in_order(parts, rows), total

    def _policy_losses(
        self, found: Experience, rows: list[Tensor], advantages: Float[Tensor, " n"], counts: tuple[Tensor, Tensor],
        shares: LossShares,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The policy's part of the loss goes to the shares; its parts and the mismatch of the sampler come back."""
        (tokens, spoken), policy, logs = counts, self.policy, dict[str, Tensor]()
        device, generation = found.acts.device, found.generation
        # A single step on exact rollouts is on policy: the ratio is one whatever the last digit of either pass says.
        on_policy = policy.updates == 1 and self.backend.exact
        for at in (rows := [one.to(device) for one in rows]):
            ids, mask, sampled = (
                values[at.to(values.device)].to(device)
                for values in (generation.ids, generation.mask, generation.logprobs)
            )
            logprobs = token_logprobs(self.verbalizer, found.acts[at], ids, mask, self.rollouts.temperature)
            before = logprobs.detach() if on_policy else sampled
            objective = policy_objective(logprobs, before, advantages[at], policy.clip)
            share = masked_sum(objective, found.credited[at]) / tokens
            told = {"policy_loss": share, "mismatch": masked_sum((logprobs.detach() - sampled).abs(), mask) / spoken}
            if found.reference is not None:
                told["kl"] = masked_sum(k3_divergence(logprobs, found.reference[at]), mask) / spoken
                share = share + policy.kl_weight * told["kl"]
            logs = {name: logs.get(name, 0) + value.detach() for name, value in told.items()}
            shares.add(share, hold=at is rows[-1])
        return logs

    def read_errors(
        self, texts: list[str], acts: Float[Tensor, "n d_model"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Error of what is read back from each text: as it is rewarded, and as the reconstructor is trained on it."""
        errors = mean_squared_errors(self.reconstructor.read(texts), acts)
        return errors, errors

    def targets(self, acts: Float[Tensor, "n d_model"]) -> Tensor:
        """What the reconstructor has to give back."""
        return acts

    def _fraction(self, errors: Tensor, acts: Tensor) -> Tensor:
        """FVE of the batch from mean squared errors a dimension, failed rows counted."""
        from tl_nla.metrics import squared_deviations

        acts = self.targets(acts)
        error, deviation = sums(errors.double().sum() * acts.shape[-1], squared_deviations(acts, self.mean).sum())
        return 1 - error / deviation

    def _step(self, optimizer: Any, loss: Tensor) -> dict[str, Any]:
        """Clip and step, or skip the step when the loss or a gradient is not finite."""
        parts = {"av": self.verbalizer, "ar": self.reconstructor}
        norms = {
            name: whole(torch.nn.utils.clip_grad_norm_(
                [p for p in part.parameters() if p.requires_grad], self.rates.gradient_clip
            ))
            for name, part in parts.items()
        }  # fmt: skip
        finite = bool(torch.isfinite(loss)) and all(bool(torch.isfinite(norm)) for norm in norms.values())
        # The norms are the same in every process, the loss is not: all of them have to decide alike.
        if self.trainer.strategy.reduce_boolean_decision(finite, all=True):
            for group, rate in zip(optimizer.param_groups, self.rates.at(self.global_step), strict=True):
                group["lr"] = rate
            optimizer.step()
            self._skipped_in_a_row = 0
        else:
            self.skipped += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row >= _SKIPS_IN_A_ROW:
                raise InputError(
                    f"{_SKIPS_IN_A_ROW} steps in a row had a loss or gradient that is not finite; lower the learning "
                    "rates or compute in float32"
                )
        optimizer.zero_grad()
        return {f"gradient_norm_{name}": norm for name, norm in norms.items()}

    def _generators(self, rows: int, stream: int = 0) -> list[torch.Generator]:
        """One a row of the global batch, whose rows the loader deals to the processes in turn.

        Nothing needs to be stored for a resumed run to draw the same.
        """
        numbers = [row * world_size() + rank() for row in range(rows)]
        mixed = [((self.policy.seed * 1_000_003 + self.batches) * 100_003 + number) * 7 + stream for number in numbers]
        return [torch.Generator().manual_seed(seed % 2**63) for seed in mixed]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out FVE of greedy explanations, how many could be extracted, and their length."""
        with gathered(self.verbalizer, self.reconstructor):
            found = self.nla.generate(batch["acts"], max_new_tokens=self.rollouts.max_new_tokens)
            texts = [text if ok else "" for text, ok in zip(found.texts, found.extracted, strict=True)]
            vectors = None if self.fve is None else self.nla.reconstruct(texts)
        if self.fve is not None:
            self.fve.update(vectors, self.targets(batch["acts"]).cpu(), ~found.extracted)
            self.log("val/fve", self.fve, prog_bar=True, batch_size=len(texts))
        for name, value in (("extraction_rate", found.extracted), ("length", found.mask.sum(1))):
            self.log(f"val/{name}", value.float().mean(), batch_size=len(texts), sync_dist=True)

    test_step = validation_step

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[str]:
        """Greedy explanations."""
        with gathered(self.verbalizer):
            return self.nla.generate(batch["acts"], max_new_tokens=self.rollouts.max_new_tokens).texts

    def configure_optimizers(self) -> Any:
        """AdamW without weight decay, a group a part with its own learning rate."""
        rates = self.rates.learning_rate, self.rates.reconstructor_learning_rate
        parts = zip((self.verbalizer, self.reconstructor), rates, strict=True)
        groups = [{"params": [p for p in part.parameters() if p.requires_grad], "lr": rate} for part, rate in parts]
        return torch.optim.AdamW(groups, weight_decay=0.0)

    def counts(self) -> dict[str, int]:
        """What a resumed run has to know beside the weights."""
        return {"batches": self.batches, "skipped": self.skipped}

    def set_counts(self, counts: dict[str, int]) -> None:
        """Continue where the checkpoint was written."""
        self.batches, self.skipped = counts["batches"], counts["skipped"]


def load_pair(name: str, dtype: torch.dtype = torch.float32) -> NLA:
    """The embedded pair for ``"tiny"``, or the one in a folder with ``av`` and ``ar``.

    Args:
        name: ``"tiny"``, or the folder.
        dtype: of the weights; the reconstructor's head and the injection are float32.

    Raises:
        InputError: when there is none.
    """
    plugin = embedded(name)
    folder = user_path(name) if plugin is None else plugin.WEIGHTS
    if not (folder / "av").is_dir() or not (folder / "ar").is_dir():
        raise InputError(f"{str(folder)!r} holds no warm-started pair; give a folder with 'av' and 'ar', or 'tiny'")
    return NLA.from_pretrained(folder / "av", folder / "ar", dtype=dtype)
