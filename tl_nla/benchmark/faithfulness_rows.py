"""Rows of the suite ``faithfulness``: each function measures one thing on one arm's words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.benchmark.bootstrap import mean_interval, ratio_interval, statistic_interval
from tl_nla.benchmark.results import Row
from tl_nla.faithfulness.causal import ExplainedTexts, causal_effects, claim_directions, claimed_tokens
from tl_nla.faithfulness.claims import (
    Rate,
    by_distance,
    by_type,
    precision_by,
    recall_by,
    score_claims,
    score_guesses,
)
from tl_nla.faithfulness.clauses import quoted_spans, split_clauses
from tl_nla.faithfulness.codes import cross_errors, cross_reconstructor_gap
from tl_nla.faithfulness.edits import Edit, deletions, edit_effects, substitutions
from tl_nla.faithfulness.grammar import Truth, grammar, parse_claims
from tl_nla.faithfulness.judge import agreement, judge_explanations, judge_quotes
from tl_nla.faithfulness.marginal import TOKEN_CLASSES, excess_values, token_marginals
from tl_nla.faithfulness.order import order_curves
from tl_nla.faithfulness.retention import measure_retention
from tl_nla.faithfulness.scoring import Reconstruct, Scorer

FACTS = ("who", "where", "what", "feeling", "inside", "colour")
CURVE_ROWS = 200
"""Rows that order and marginals, which need dozens of readings each, are measured on: the first ones."""


@dataclass(frozen=True)
class Words:
    """One arm's words about some states.

    Attributes:
        arm: ``"explanation"`` or ``"gold"``.
        texts: the words, one a state.
        scorer: states and reconstructor.
        document: of each state.
        position: token position of each state.
        tokens: token ids of each state's whole text.
        truths: what is known at each; ``None`` where truth is not known.
        gold: written explanations to measure recall against; ``None`` where truth is not known.
    """

    arm: str
    texts: list[str]
    scorer: Scorer
    document: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    tokens: list[list[int]]
    truths: Sequence[Truth] | None = None
    gold: Sequence[str] | None = None

    def first(self, count: int) -> "Words":
        """The first rows."""
        part = Scorer(self.scorer.reconstruct, self.scorer.acts[:count], self.scorer.mean)
        return Words(
            self.arm, self.texts[:count], part, self.document[:count], self.position[:count], self.tokens[:count],
            None if self.truths is None else self.truths[:count], None if self.gold is None else self.gold[:count],
        )  # fmt: skip


def generator() -> torch.Generator:
    """Of every interval."""
    return torch.Generator().manual_seed(0)


def mean_row(
    words: Words, metric: str, values: Float[Tensor, " m"], rows: Sequence[int] | None = None, arm: str | None = None
) -> Row:
    """Mean of values with its interval; ``rows`` says which state each belongs to, ``arm`` whose it is otherwise."""
    documents = words.document if rows is None else words.document[torch.tensor(rows, dtype=torch.long)]
    return Row.of(arm or words.arm, metric, mean_interval(values.double(), documents, generator=generator()))


def _rate_row(words: Words, metric: str, rate: Rate) -> Row:
    return mean_row(words, metric, torch.tensor(rate.correct, dtype=torch.float64), rate.rows)


def fve_rows(words: Words) -> list[Row]:
    """FVE of the words as they are, and how much of them is quoted from the text so far (truth need not be known)."""
    errors = words.scorer.errors(words.texts)
    share = words.scorer.deviations / words.scorer.deviations.mean()
    interval = ratio_interval(share - errors, share, words.document, generator=generator())
    return [Row.of(words.arm, "fve", interval)]


def quote_rows(words: Words, read: Sequence[str]) -> list[Row]:
    """Share of clauses whose quotes stand word for word in the text so far, of those that quote something."""
    judged = [c for c in judge_explanations(words.texts, read, judge_quotes) if c.verdict is not None]
    if not judged:
        return []
    rate = Rate([claim.row for claim in judged], [bool(claim.verdict) for claim in judged])
    rows = [_rate_row(words, "claim_precision/quoted_verbatim", rate)]
    known_world = grammar().judge
    if words.truths is None or known_world is None:
        return rows
    some, so_far = words.texts[:CURVE_ROWS], list(read)[:CURVE_ROWS]
    both = [[c.verdict for c in judge_explanations(some, so_far, judge)] for judge in (judge_quotes, known_world)]
    found = agreement(both[0], both[1])
    measured = {"judge_agreement/quotes": found.rate, "judge_agreement/quotes_kappa": found.kappa}
    known = {name: value for name, value in measured.items() if value == value}
    return rows + [Row(words.arm, name, value, None, None, found.n) for name, value in known.items()]


def claim_rows(words: Words) -> list[Row]:
    """Precision and recall by type and by words since told, and how right guesses are by how sure they are said."""
    if words.truths is None or words.gold is None:
        return []
    said = score_claims(words.texts, words.truths, words.position)
    gold = score_claims(words.gold, words.truths, words.position)
    groups: dict[str, Callable[..., Any]] = {
        "": lambda claim: "", "/": by_type, "/facts": lambda claim: "" if claim.claim.type in FACTS else None,
        "/told_": by_distance,
    }  # fmt: skip
    rows = []
    for prefix, key in groups.items():
        rates: dict[str, Mapping[Any, Rate]] = {
            "claim_precision": precision_by(said, key), "claim_recall": recall_by(words.texts, gold, key),
        }  # fmt: skip
        for metric, found in rates.items():
            rows += [_rate_row(words, f"{metric}{prefix}{group}", rate) for group, rate in found.items()]
    guesses = score_guesses(words.texts, words.gold, words.truths)
    for certainty in dict.fromkeys(guess.certainty for guess in guesses):
        mine = [guess for guess in guesses if guess.certainty == certainty]
        rate = Rate([guess.row for guess in mine], [guess.right for guess in mine])
        rows.append(_rate_row(words, f"claim_precision/next_{certainty}", rate))
        rate = Rate(rate.rows, [guess.deserved == certainty for guess in mine])
        rows.append(_rate_row(words, f"claim_precision/certainty_{certainty}", rate))
    return rows


def retention_rows(words: Words) -> list[Row]:
    """Share of FVE, and of claims, that survives each perturbation; ``retention`` alone is that of the paraphrase."""
    share = words.scorer.deviations / words.scorer.deviations.mean()
    rows = []
    for name, found in measure_retention(words.scorer, words.texts).items():
        kept = ratio_interval(share - found.errors, share - found.before, words.document, generator=generator())
        if name == "paraphrase":
            rows.append(Row.of(words.arm, "retention", kept))
        rows.append(Row.of(words.arm, f"retention/{name}", kept))
        if words.truths is not None and any(found.claims_before):
            counts = [torch.tensor(n, dtype=torch.float64) for n in (found.claims_kept, found.claims_before)]
            claims = ratio_interval(counts[0], counts[1], words.document, generator=generator())
            rows.append(Row.of(words.arm, f"claim_retention/{name}", claims))
    return rows


def edit_rows(words: Words) -> list[Row]:
    """What deleting one clause, or falsifying one fact, costs; by kind, and of facts by verdict."""
    edits = deletions(words.texts, words.truths)
    effects = edit_effects(words.scorer, words.texts, edits)
    rows = _effect_rows(words, "deletion_loss", edits, effects)
    if words.truths is None:
        return rows
    changed = substitutions(words.texts, words.truths)
    return rows + _effect_rows(words, "substitution_loss", changed, edit_effects(words.scorer, words.texts, changed))


def _effect_rows(words: Words, metric: str, edits: Sequence[Edit], effects: Tensor) -> list[Row]:
    if not edits:
        return []
    rows = [mean_row(words, metric, effects, [edit.row for edit in edits])]
    names: list[list[str]] = [
        [edit.kind, *([f"facts_{edit.verdict}", f"{edit.kind}_{edit.verdict}"]
                      if edit.kind in FACTS and edit.verdict else [])] for edit in edits
    ]  # fmt: skip
    for name in dict.fromkeys(name for own in names for name in own):
        places = [place for place, own in enumerate(names) if name in own]
        rows.append(mean_row(words, f"{metric}/{name}", effects[places], [edits[place].row for place in places]))
    true, false = (torch.tensor([f"facts_{verdict}" in own for own in names]) for verdict in ("true", "false"))
    if true.any() and false.any():
        documents = words.document[torch.tensor([edit.row for edit in edits])]

        def difference(picked: Tensor) -> float:
            return float(effects[picked][true[picked]].mean() - effects[picked][false[picked]].mean())

        interval = statistic_interval(difference, documents, generator=generator())
        rows.append(Row.of(words.arm, f"{metric}/facts_true_minus_false", interval))
    return rows


def causal_rows(words: Words, model: Any, tokenizer: Any, point: str) -> list[Row]:
    """What subtracting a claim's direction does to its word and to the others' words, beside a random direction."""
    deleted = deletions(words.texts, words.truths)
    named = [(edit, word) for edit in deleted if (word := _claimed(words, edit)) is not None]
    if not named:
        return []
    edits = [edit for edit, _ in named]
    ids = claimed_tokens(tokenizer, [word for _, word in named]).tolist()
    directions = claim_directions(words.scorer.reconstruct, words.texts, edits, words.scorer.acts)
    positions = words.position.tolist()
    effects = causal_effects(model, ExplainedTexts(words.tokens, positions, point), edits, directions, ids, generator())
    rows = []
    for group in ("next", "facts", "other"):
        mine = [e for e in effects if ("facts" if e.kind in FACTS else e.kind) == group]
        if mine:
            where = [effect.row for effect in mine]
            own, control = (torch.tensor([getattr(e, name) for e in mine]) for name in ("own", "control"))
            rows.append(mean_row(words, f"causal_effect/{group}", own, where))
            rows.append(mean_row(words, f"causal_effect/{group}", control, where, arm="random_direction"))
            others = [(e.row, e.others) for e in mine if e.others is not None]
            if others:
                values = torch.tensor([value for _, value in others])
                rows.append(mean_row(words, f"causal_effect/{group}_on_others", values, [row for row, _ in others]))
    if words.arm != "explanation":  # one control, that of the words under test
        rows = [row for row in rows if row.arm != "random_direction"]
    return rows


def _claimed(words: Words, edit: Edit) -> str | None:
    """The word that a deleted clause named: the value of its fact or first guess, else what it quoted last."""
    clause = split_clauses(words.texts[edit.row])[edit.clause].text
    claims = parse_claims(clause)
    if edit.kind == "recent":
        return None
    if claims and edit.kind != "other":
        return claims[0].value if claims[0].value.strip() else None
    quotes = [clause[start:end].strip() for start, end in quoted_spans(clause)]
    return quotes[-1] if quotes and quotes[-1] else None


def order_rows(words: Words) -> list[Row]:
    """How near the order of clauses is to the best one, by number of clauses read."""
    some = words.first(CURVE_ROWS)
    curves = order_curves(some.scorer, some.texts)
    rows = []
    for depth in range(min(3, curves.model.shape[1] - 1)):
        model, shuffled, greedy = (c[:, depth] for c in (curves.model, curves.random, curves.greedy))
        if float((shuffled - greedy).sum()) > 0:
            interval = ratio_interval(shuffled - model, shuffled - greedy, some.document, generator=generator())
            rows.append(Row.of(words.arm, f"order_optimality/first_{depth + 1}", interval))
    return rows


def marginal_rows(words: Words, tokenizer: Any) -> list[Row]:
    """Which class of tokens adds more FVE than others at its place."""
    some = words.first(CURVE_ROWS)
    marginals = token_marginals(some.scorer, some.texts, tokenizer)
    excess = excess_values(marginals)
    rows = []
    for name in TOKEN_CLASSES:
        mine = [place for place, token in enumerate(marginals) if token.token_class == name]
        if mine:
            where = [marginals[place].row for place in mine]
            rows.append(mean_row(some, f"excess_marginal_fve/{name}", excess[mine], where))
    return rows


def cross_rows(words: Words, readers: Mapping[str, Reconstruct]) -> list[Row]:
    """FVE under reconstructors never trained with these words, and the gap to the own one."""
    if not readers:
        return []
    errors = cross_errors(words.scorer, {"av": words.texts}, {"own": words.scorer.reconstruct, **readers})
    share = words.scorer.deviations / words.scorer.deviations.mean()
    rows = [mean_row(words, "cross_reconstructor_gap", cross_reconstructor_gap(errors, "av", "own"))]
    for name in readers:
        interval = ratio_interval(share - errors["av", name], share, words.document, generator=generator())
        rows.append(Row.of(words.arm, f"fve/read_by_{name}", interval))
    return rows
