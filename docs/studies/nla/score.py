"""Scores of one NLA, row by row: every arm's squared error and every claim type's counts.

Rows, not averages, are kept, so that seeds can be joined and intervals drawn over documents.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from docs.studies.nla.claims import count_claims
from tl_nla.benchmark.arms import MAX_NEW_TOKENS, shuffle_across_documents
from tl_nla.benchmark.row_store import read_rows, write_rows
from tl_nla.data import ExplainedStates
from tl_nla.metrics import cosine, normalise, squared_deviations, squared_errors
from tl_nla.metrics.probe import fit_probe
from tl_nla.nla import NLA
from tl_nla.storyworld.claims import CLAIM_TYPES, Truth
from tl_nla.storyworld.explanations import fact_answers

CONSTANT_TEXT = 'Recent words: " went to the park. Tom". Next: likely " was". This is about Tom. Tom is at the park.'


@dataclass
class NLARows:
    """Row scores of one trained pair on held-out states.

    Attributes:
        seed: of the training.
        document: of each row.
        deviation: squared distance of each normalised state to the training mean (the denominator of FVE).
        errors: arm -> squared error of each row.
        cosines: arm -> cosine of each row.
        extracted: arm -> 1 where an explanation could be extracted.
        claims: arm -> counts ``[rows, types, 4]``: said, true, expected, found.
        examples: a few explanations, written and generated.
    """

    seed: int
    document: Int[Tensor, " n"]
    deviation: Float[Tensor, " n"]
    errors: dict[str, Tensor] = field(default_factory=dict)
    cosines: dict[str, Tensor] = field(default_factory=dict)
    extracted: dict[str, Tensor] = field(default_factory=dict)
    claims: dict[str, Tensor] = field(default_factory=dict)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the examples as named tensors."""
        named = {"document": self.document, "deviation": self.deviation.float()}
        for kind in ("errors", "cosines", "extracted", "claims"):
            for arm, value in getattr(self, kind).items():
                named[f"{kind}/{arm}"] = value.to(torch.float32 if kind in ("errors", "cosines") else torch.int8)
        return {f"{self.seed}/{name}": value.contiguous() for name, value in named.items()}


def save_rows(rows: Sequence[NLARows], path: Path) -> None:
    """Store the row scores of several seeds in one safetensors file."""
    named: dict[str, Tensor] = {}
    for one in rows:
        named |= one.tensors()
    write_rows(path, named)


def load_rows(path: Path) -> list[NLARows]:
    """Row scores stored by :func:`save_rows`, by seed."""
    by_seed: dict[int, NLARows] = {}
    found, _ = read_rows(path, "run 'python -m docs.studies tiny'")
    for seed in sorted({int(name.split("/")[0]) for name in found}):
        by_seed[seed] = NLARows(seed, found[f"{seed}/document"].long(), found[f"{seed}/deviation"])
    for name, value in found.items():
        seed_text, kind, *arm = name.split("/")
        if arm:
            getattr(by_seed[int(seed_text)], kind)["/".join(arm)] = value
    return list(by_seed.values())


def score_nla(
    nla: NLA, train: ExplainedStates, held: ExplainedStates, seed: int,
    read_context: Callable[[list[str]], Tensor] | None = None, contexts: list[str] | None = None,
) -> NLARows:  # fmt: skip
    """Score one pair on held-out states.

    Args:
        nla: the pair.
        train: training states, for the mean and the probes.
        held: held-out states with their gold explanations and truths.
        seed: of the training, and of the shuffle.
        read_context: a reader trained on raw context in the same way (the ``cat`` arm); left out when ``None``.
        contexts: raw context of each held-out row for it.

    Returns:
        Row scores of the arms ``explanation``, ``gold``, ``shuffled``, ``empty``, ``constant``, ``mean``, ``probe``
        (claims only) and ``cat``.
    """
    mean = normalise(train.acts).double().mean(0).float()
    rows = NLARows(seed, held.document, squared_deviations(held.acts, mean))
    generation = nla.generate(held.acts, max_new_tokens=MAX_NEW_TOKENS)
    failed = ~generation.extracted
    vectors = nla.reconstruct(generation.texts)
    other = shuffle_across_documents(held.document, seed)
    arms = {
        "explanation": (vectors, failed),
        "gold": (nla.reconstruct(held.explanations), None),
        "shuffled": (vectors[other], failed[other]),
        "empty": (nla.reconstruct([""]).expand(len(held), -1), None),
        "constant": (nla.reconstruct([CONSTANT_TEXT]).expand(len(held), -1), None),
        "mean": (mean.expand(len(held), -1), None),
    }
    if read_context is not None and contexts is not None:
        arms["cat"] = (read_context(contexts), None)
    for arm, (preds, bad) in arms.items():
        rows.errors[arm] = _errors(arm, preds, held.acts, bad)
        rows.cosines[arm] = cosine(preds, held.acts)
    rows.extracted["explanation"] = generation.extracted.int()
    rows.claims["explanation"] = claim_counts(generation.texts, held.explanations, held.truths)
    rows.claims["gold"] = claim_counts(held.explanations, held.explanations, held.truths)
    rows.claims["probe"] = probe_counts(train, held)
    rows.examples = list(zip(held.explanations[:20], generation.texts[:20], strict=True))
    return rows


def _errors(arm: str, preds: Tensor, acts: Tensor, failed: Tensor | None) -> Tensor:
    if arm == "mean":  # the mean predictor answers the mean itself, whose norm is below sqrt(d_model)
        return (normalise(acts.double()) - preds.double()).square().sum(-1)
    return squared_errors(preds, acts, failed)


def claim_counts(texts: Sequence[str], gold: Sequence[str], truths: Sequence[Truth]) -> Int[Tensor, "n types 4"]:
    """Counts of :func:`docs.studies.nla.claims.count_claims` for every row and claim type."""
    table = torch.zeros(len(texts), len(CLAIM_TYPES), 4, dtype=torch.int16)
    for row, (text, expected, truth) in enumerate(zip(texts, gold, truths, strict=True)):
        for place, counts in enumerate(count_claims(text, expected, truth).values()):
            table[row, place] = torch.tensor([counts.said, counts.true, counts.expected, counts.found])
    return table


def known_answers(truths: Sequence[Truth]) -> Mapping[str, list[str | None]]:
    """The one answer of each claim type that a probe is asked for, ``None`` where nothing is known."""
    answers: dict[str, list[str | None]] = {kind: [] for kind in CLAIM_TYPES}
    for truth in truths:
        facts = fact_answers(truth.facts)
        words = truth.recent.split()
        last = {"recent": words[-1] if words else None, "next": truth.guesses[0] if truth.guesses else None}
        for kind in CLAIM_TYPES:
            answers[kind].append(last[kind] if kind in last else facts[kind])
    return answers


def probe_counts(train: ExplainedStates, held: ExplainedStates) -> Int[Tensor, "n types 4"]:
    """Counts of a linear probe a claim type: asked where the fact is known, right or wrong."""
    table = torch.zeros(len(held), len(CLAIM_TYPES), 4, dtype=torch.int16)
    known, asked = known_answers(train.truths), known_answers(held.truths)
    for place, kind in enumerate(CLAIM_TYPES):
        rows = [row for row, answer in enumerate(known[kind]) if answer is not None]
        if len({known[kind][row] for row in rows}) < 2:
            continue
        probe = fit_probe(train.acts[rows], [str(known[kind][row]) for row in rows])
        for row, guess in enumerate(probe.predict(held.acts)):
            if asked[kind][row] is not None:
                right = int(guess == asked[kind][row])
                table[row, place] = torch.tensor([1, right, 1, right])
    return table
