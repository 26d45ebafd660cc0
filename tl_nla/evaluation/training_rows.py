"""Row scores of trained pairs on held-out states, whole explanations and their first tokens; stored small."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.evaluation.nla_rows import MAX_NEW_TOKENS, NLARows, claim_counts
from tl_nla.metrics import cosine, squared_deviations, squared_errors
from tl_nla.nla import NLA
from tl_nla.nla.rollouts import cut_explanations

BUDGETS = (2, 4, 6, 8, 10, 12, 15, 18, 22, 26, 30, 36, 42, 50, 60)
"""Explanation tokens after which the reconstruction is scored."""
CURVE = ("core_seconds", "reward", "fve", "kl", "length", "extraction_rate")


@dataclass
class TrainingRows:
    """What one seed's study found.

    Attributes:
        scores: row scores by arm.
        prefix: arm -> squared error of each row at each of ``BUDGETS`` (a subset of the rows, the first ones).
        curve: arm -> one row a training step, columns ``CURVE``.
    """

    scores: NLARows
    prefix: dict[str, Tensor] = field(default_factory=dict)
    curve: dict[str, Tensor] = field(default_factory=dict)

    def score(
        self, arm: str, nla: NLA, held: ExplainedStates, mean: Float[Tensor, " d_model"], prefix_rows: int = 0
    ) -> None:
        """Add an arm: greedy explanations of the held-out states.

        Args:
            arm: its name.
            nla: the pair.
            held: held-out states.
            mean: of the normalised training states.
            prefix_rows: how many rows are also scored at every budget.
        """
        self.scores.deviation = squared_deviations(held.acts, mean)
        generation = nla.generate(held.acts, max_new_tokens=MAX_NEW_TOKENS)
        failed = ~generation.extracted
        texts = [text if ok else "" for text, ok in zip(generation.texts, generation.extracted, strict=True)]
        vectors = nla.reconstruct(texts)
        self.scores.errors[arm] = squared_errors(vectors, held.acts, failed)
        self.scores.cosines[arm] = cosine(vectors, held.acts)
        self.scores.extracted[arm] = generation.extracted.int()
        self.scores.claims[arm] = claim_counts(generation.texts, held.explanations, held.truths)
        if prefix_rows:
            self.prefix[arm] = prefix_errors(nla, held.acts[:prefix_rows])

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file in small types."""
        named: dict[str, Tensor] = {}
        for name, value in self.scores.tensors().items():
            size = torch.int8 if "/claims/" in name or "/extracted/" in name else None
            named[name] = value.to(size) if size else value
        for kind in ("prefix", "curve"):
            for arm, value in getattr(self, kind).items():
                small = torch.float16 if kind == "prefix" else torch.float32
                named[f"{self.scores.seed}/{kind}/{arm}"] = value.to(small).contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(named, path)


def load_training_rows(paths: Sequence[Path]) -> list[TrainingRows]:
    """What :meth:`TrainingRows.save` wrote, by seed.

    Raises:
        InputError: when there is no file.
    """
    if not paths:
        raise InputError("no stored runs of suite 'training'; make one: python -m lightning_modules.studies training")
    found = []
    for path in sorted(paths):
        tensors = load_file(path)
        seed = next(iter(tensors)).split("/")[0]
        rows = TrainingRows(NLARows(int(seed), tensors[f"{seed}/document"].long(), tensors[f"{seed}/deviation"]))
        for name, value in tensors.items():
            _, kind, *arm = name.split("/")
            if arm:
                home: Any = rows if kind in ("prefix", "curve") else rows.scores
                getattr(home, kind)["/".join(arm)] = value
        found.append(rows)
    return sorted(found, key=lambda rows: rows.scores.seed)


def prefix_errors(nla: NLA, acts: Float[Tensor, "n d_model"]) -> Float[Tensor, "n budgets"]:
    """Squared error of each state when only the first tokens of its greedy explanation are read."""
    generation = nla.generate(acts, max_new_tokens=MAX_NEW_TOKENS)
    columns = []
    for budget in BUDGETS:
        texts, _ = cut_explanations(nla.verbalizer.tokenizer, generation, torch.full((len(acts),), budget))
        columns.append(squared_errors(nla.reconstruct(texts), acts, ~generation.extracted))
    return torch.stack(columns, 1).float()


def tokens_to(target: float, errors: Float[Tensor, "n budgets"], deviations: Float[Tensor, " n"]) -> float:
    """Tokens after which FVE reaches ``target``, linear between budgets; NaN where it never does."""
    fractions = (1 - errors.double().sum(0) / deviations.double().sum()).tolist()
    before, tokens = 0.0, 0.0
    for budget, fraction in zip(BUDGETS, fractions, strict=True):
        if fraction >= target:
            share = 1.0 if tokens == 0 else (target - before) / (fraction - before)
            return tokens + share * (budget - tokens) if tokens else float(budget)
        before, tokens = fraction, float(budget)
    return float("nan")
