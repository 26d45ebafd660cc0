"""Claims scored one by one, where a plug-in's grammar can take words apart and check them."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.rows import Material
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.words import Say
from tl_nla.faithfulness.grammar import ClaimGrammar


def claims_task(material: Material, grammar: ClaimGrammar) -> Task:
    """Accuracy of claims: twice the true ones, divided by those said and those that could be said."""

    def score(say: Say) -> Float[Tensor, " n"]:
        return claim_accuracy(say(material.rows), material.truths, material.gold, grammar)

    return Task("claims", "How many of the claims are true, and how many are made?", score, material.rows.document)


def claim_accuracy(
    texts: Sequence[str], truths: Sequence[Any], gold: Sequence[str], grammar: ClaimGrammar
) -> Float[Tensor, " n"]:
    """Accuracy of each text's claims: ``2 true / (said + expected)``, the harmonic mean of precision and recall."""
    rows = []
    for text, truth, written in zip(texts, truths, gold, strict=True):
        said = grammar.made(text, truth)
        true = sum(grammar.check(claim, truth) == "true" for claim in said)
        rows.append(min(1.0, 2 * true / max(1, len(said) + len(grammar.parse(written)))))
    return torch.tensor(rows, dtype=torch.float64)
