"""One claim deleted or falsified: what becomes of the reconstruction.

If words carry what they say, deleting a true claim costs more than deleting a false one (Anthropic 2026, NLA paper,
claim deletion), and a false value in its place costs more still.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.faithfulness.clauses import join_clauses, split_clauses
from tl_nla.faithfulness.grammar import Claim, Truth, Verdict, check, grammar, parse_claims
from tl_nla.faithfulness.scoring import Scorer


@dataclass(frozen=True)
class Edit:
    """One explanation with one clause changed.

    Attributes:
        row: which explanation.
        clause: which of its clauses.
        kind: claim type of the clause, ``"other"`` when it is none of the grammar's.
        verdict: of the clause's claims: ``"true"`` when all are, ``"false"`` when one is, else ``"untold"``;
            ``None`` without truth.
        text: the changed explanation.
    """

    row: int
    clause: int
    kind: str
    verdict: Verdict | None
    text: str


def deletions(texts: Sequence[str], truths: Sequence[Truth] | None = None) -> list[Edit]:
    """Every explanation without each of its clauses in turn; any text."""
    edits = []
    for row, text in enumerate(texts):
        clauses = split_clauses(text)
        for place, clause in enumerate(clauses):
            verdict = None if truths is None else clause_verdict(clause.text, truths[row])
            rest = join_clauses(clauses[:place] + clauses[place + 1 :])
            edits.append(Edit(row, place, clause.kind, verdict, rest))
    return edits


def substitutions(texts: Sequence[str], truths: Sequence[Truth], seed: int = 0) -> list[Edit]:
    """Every explanation with the value of each of its facts in turn replaced by another, false one.

    Args:
        texts: explanations whose claims the grammar in use knows.
        truths: what is known where each was written.
        seed: of the new values.
    """
    rng = random.Random(f"substitutions/{seed}")
    edits = []
    for row, (text, truth) in enumerate(zip(texts, truths, strict=True)):
        clauses = split_clauses(text)
        for place, clause in enumerate(clauses):
            claims = parse_claims(clause.text)
            if len(claims) != 1 or claims[0].type not in grammar().values:
                continue
            changed = replace_value(clause.text, claims[0], false_value(claims[0], truth, rng))
            whole = join_clauses([c.text for c in clauses[:place]] + [changed] + [c.text for c in clauses[place + 1 :]])
            edits.append(Edit(row, place, claims[0].type, check(claims[0], truth), whole))
    return edits


def clause_verdict(clause: str, truth: Truth) -> Verdict | None:
    """Verdict on all claims of a clause together; ``None`` when it makes none."""
    verdicts = {check(claim, truth) for claim in parse_claims(clause)}
    if not verdicts:
        return None
    return "false" if "false" in verdicts else ("untold" if "untold" in verdicts else "true")


def false_value(claim: Claim, truth: Truth, rng: random.Random) -> str:
    """A value of the claim's type that is neither what it says nor true."""
    options = [
        value for value in grammar().values[claim.type]
        if value != claim.value and check(Claim(claim.type, claim.subject, value), truth) != "true"
    ]  # fmt: skip
    return rng.choice(options)


def replace_value(clause: str, claim: Claim, value: str) -> str:
    """The clause with the claim's value, which stands last in it, replaced."""
    place = clause.rindex(claim.value)
    return clause[:place] + value + clause[place + len(claim.value) :]


def edit_effects(scorer: Scorer, texts: Sequence[str], edits: Sequence[Edit]) -> Float[Tensor, " edits"]:
    """How much each edit costs: the growth of the row's error, 0.01 being one point of FVE.

    Args:
        scorer: reconstructor and states.
        texts: the unchanged explanations, one a state.
        edits: from :func:`deletions` or :func:`substitutions`.
    """
    before = scorer.errors(texts)
    rows = torch.tensor([edit.row for edit in edits], dtype=torch.long)
    return scorer.errors([edit.text for edit in edits], rows) - before[rows]
