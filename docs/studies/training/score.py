"""Scores of trained pairs on held-out states, of whole explanations and of their first tokens; stored small.

What is stored are sums over each story, which is all that an interval over stories needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from docs.studies.nla.score import NLARows, claim_counts
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.benchmark.row_store import read_rows, write_rows
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.metrics import cosine, squared_deviations, squared_errors
from tl_nla.nla import NLA
from tl_nla.nla.rollouts import cut_explanations

BUDGETS = (2, 4, 6, 8, 10, 12, 15, 18, 22, 26, 30, 36, 42, 50, 60)
"""Explanation tokens after which the reconstruction is scored."""
CURVE = ("step", "core_seconds", "reward", "fve", "kl", "length", "extraction_rate")
_EVERY = 5
"""Of the curve's steps, one in so many is stored, and the last."""


@dataclass
class TrainingRows:
    """What one seed's study found.

    Attributes:
        scores: a row a story: sums of errors, deviations and claim counts, means of cosines and extractions.
        prefix: arm -> squared error at each of ``BUDGETS``, summed over each of the first stories.
        curve: arm -> one row a training step, columns ``CURVE``.
    """

    scores: NLARows
    prefix: dict[str, Tensor] = field(default_factory=dict)
    curve: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, seed: int, held: ExplainedStates, mean: Float[Tensor, " d_model"]) -> "TrainingRows":
        """Without any arm yet.

        Args:
            seed: of the training.
            held: held-out states.
            mean: of the normalised training states.
        """
        deviations = document_sums(squared_deviations(held.acts, mean), held.document)
        return cls(NLARows(seed, held.document.unique(), deviations.float()))

    def score(self, arm: str, nla: NLA, held: ExplainedStates, prefix_documents: int = 0) -> None:
        """Add an arm: greedy explanations of the held-out states.

        Args:
            arm: its name.
            nla: the pair.
            held: held-out states.
            prefix_documents: of how many stories the states are also scored at every budget.
        """
        generation = nla.generate(held.acts, max_new_tokens=MAX_NEW_TOKENS)
        texts = [text if ok else "" for text, ok in zip(generation.texts, generation.extracted, strict=True)]
        vectors = nla.reconstruct(texts)
        rows = document_sums(torch.ones(len(held)), held.document)
        errors = squared_errors(vectors, held.acts, ~generation.extracted)
        claims = claim_counts(generation.texts, held.explanations, held.truths)
        self.scores.errors[arm] = document_sums(errors, held.document).float()
        self.scores.cosines[arm] = (document_sums(cosine(vectors, held.acts), held.document) / rows).float()
        self.scores.extracted[arm] = (document_sums(generation.extracted, held.document) / rows).float()
        self.scores.claims[arm] = document_sums(claims, held.document).int()
        first = torch.isin(held.document, held.document.unique()[:prefix_documents])
        if first.any():
            self.prefix[arm] = document_sums(prefix_errors(nla, held.acts[first]), held.document[first]).float()

    def save(self, path: Path) -> None:
        """Put everything into one safetensors file; arms that it holds already and that are not here stay.

        Raises:
            InputError: when the file is of other held-out states.
        """
        named, _ = read_rows(path)
        seed = self.scores.seed
        known = named.get(f"{seed}/deviation", self.scores.deviation)
        if known.shape != self.scores.deviation.shape or not torch.allclose(known, self.scores.deviation, rtol=1e-4):
            raise InputError(f"{str(path)!r} holds scores of other states; delete it, or store somewhere else")
        named |= {f"{seed}/document": self.scores.document, f"{seed}/deviation": self.scores.deviation}
        kinds = {kind: getattr(self.scores, kind) for kind in ("errors", "cosines", "extracted")}
        kinds |= {"prefix": self.prefix, "claims": {arm: _counts(counts) for arm, counts in self.scores.claims.items()}}
        kinds["curve"] = {arm: _thinned(curve) for arm, curve in self.curve.items()}
        named |= {f"{seed}/{kind}/{arm}": value for kind, arms in kinds.items() for arm, value in arms.items()}
        write_rows(path, named)


def document_sums(values: Tensor, document: Int[Tensor, " n"]) -> Tensor:
    """Sum of the rows of each document ``[documents, ...]`` in float64, documents in ascending order."""
    place = document.unique(return_inverse=True)[1]
    sums = torch.zeros(int(place.max()) + 1, *values.shape[1:], dtype=torch.float64)
    return sums.index_add_(0, place, values.double())


def _thinned(curve: Tensor) -> Tensor:
    return curve[sorted({*range(0, len(curve), _EVERY), len(curve) - 1})].float()


def _counts(values: Tensor) -> Tensor:
    if values.max() > torch.iinfo(torch.uint8).max:
        raise InputError(f"a story has {int(values.max())} claims of a type; the file keeps at most 255")
    return values.to(torch.uint8)


def load_training_rows(paths: Sequence[Path]) -> list[TrainingRows]:
    """What :meth:`TrainingRows.save` wrote, by seed.

    Raises:
        InputError: when there is no file.
    """
    if not paths:
        raise InputError("no stored runs of suite 'training'; make one: python -m docs.studies.training.train training")
    found = []
    for path in sorted(paths):
        tensors, _ = read_rows(path)
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
