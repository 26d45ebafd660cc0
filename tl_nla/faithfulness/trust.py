"""One pair measured on some states: what its words explain, whether they are true, and whether others understand them.

Everything is kept row by row beside the same for written explanations read by the same reconstructor, since a measure
alone says little: a reconstructor that never saw another wording loses by a paraphrase whether the words are honest or
not. ``excess`` measures are differences to the written words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_nla.data import ExplainedStates
from tl_nla.faithfulness.grammar import check, made_claims, parse_claims
from tl_nla.faithfulness.legibility import token_losses
from tl_nla.faithfulness.perturbations import Perturbation, paraphrase
from tl_nla.faithfulness.scoring import Reconstruct, Scorer
from tl_nla.faithfulness.wordings import canonical
from tl_nla.metrics import squared_errors
from tl_nla.nla import NLA

_GAP = "cross_reconstructor_gap"
Terms = dict[str, tuple[Tensor, Tensor]]
"""Measure -> numerator and denominator of each row; the measure is the ratio of their sums."""


@dataclass(frozen=True)
class PairWords:
    """A pair's words about some states beside the written ones, and who reads them.

    Attributes:
        states: what is explained, with truths and written explanations.
        texts: the pair's words; empty where extraction failed.
        extracted: whether an explanation could be extracted.
        scorer: the states, read by the pair's own reconstructor.
        references: reconstructors never trained with this verbalizer, by kind.
        perturbation: a rewording that keeps the meaning.
        clean: TransformerLens model and tokenizer that no training touched; ``None`` leaves legibility out.
        truths_known: whether ``states.truths`` are true.
    """

    states: ExplainedStates
    texts: list[str]
    extracted: Bool[Tensor, " n"]
    scorer: Scorer
    references: Mapping[str, Reconstruct]
    perturbation: Perturbation = paraphrase
    clean: tuple[Any, Any] | None = None
    truths_known: bool = True

    @classmethod
    def of(
        cls, nla: NLA, states: ExplainedStates, mean: Float[Tensor, " d_model"],
        references: Mapping[str, Reconstruct] | None = None, max_new_tokens: int = 110, **settings: Any,
    ) -> "PairWords":  # fmt: skip
        """Greedy words of a pair about states; further settings are the attributes'."""
        generation = nla.generate(states.acts, max_new_tokens=max_new_tokens)
        texts = [text if ok else "" for text, ok in zip(generation.texts, generation.extracted, strict=True)]
        scorer = Scorer(nla.reconstruct, states.acts, mean)
        return cls(states, texts, generation.extracted, scorer, references or {}, **settings)


def pair_terms(words: PairWords) -> Terms:
    """All measures of a pair, row by row.

    Returns:
        ``fve`` (failed rows count as errors of 2 d_model), ``fve_written`` (the written words under the same
        reconstructor), ``extraction_rate``, ``length`` (words). ``retention``, ``retention_written``,
        ``paraphrase_excess``. Where truth is known ``claim_precision``, ``claim_precision_facts``, ``claims_said``,
        ``claim_recall``. For each kind of reference ``cross_reconstructor_gap/KIND``, ``..._gap_written/KIND`` and
        ``..._gap_excess/KIND``. With a clean model ``legibility``, ``legibility_excess``. FVEs, gaps and excesses are
        shares of the variance: .01 is a point of FVE.
    """
    share = words.scorer.deviations / words.scorer.deviations.mean()
    ones, written = torch.ones_like(share), words.states.explanations
    own, own_written = words.scorer.errors(words.texts), words.scorer.errors(written)
    vectors = words.scorer.reconstruct(words.texts)
    counted = squared_errors(vectors, words.states.acts, ~words.extracted) / words.scorer.deviations.mean()
    terms: Terms = {
        "fve": (share - counted, share),
        "fve_written": (share - own_written, share),
        "extraction_rate": (words.extracted.double(), ones),
        "length": (torch.tensor([len(text.split()) for text in words.texts], dtype=torch.float64), ones),
    }
    moved = words.scorer.errors([words.perturbation(text) for text in words.texts])
    moved_written = words.scorer.errors([words.perturbation(text) for text in written])
    terms |= {
        "retention": (share - moved, share - own),
        "retention_written": (share - moved_written, share - own_written),
        "paraphrase_excess": ((moved - own) - (moved_written - own_written), ones),
    }
    for kind, read in words.references.items():
        other = words.scorer.reading_with(read)
        gap, gap_written = other.errors(words.texts) - own, other.errors(written) - own_written
        terms |= {
            f"{_GAP}/{kind}": (gap, ones), f"{_GAP}_written/{kind}": (gap_written, ones),
            f"{_GAP}_excess/{kind}": (gap - gap_written, ones),
        }  # fmt: skip
    if words.truths_known:
        terms |= _claim_terms(words)
    if words.clean is not None:
        losses, losses_written = (token_losses(*words.clean, some) for some in (words.texts, written))
        terms |= {"legibility": (losses, ones), "legibility_excess": (losses - losses_written, ones)}
    return terms


def _claim_terms(words: PairWords) -> Terms:
    counts = torch.zeros(len(words.texts), 6, dtype=torch.float64)
    rows = zip(words.texts, words.states.truths, words.states.explanations, strict=True)
    for row, (text, truth, written) in enumerate(rows):
        claims, wanted = made_claims(canonical(text), truth), set(parse_claims(written))
        true = [check(claim, truth) == "true" for claim in claims]
        facts = [is_true for claim, is_true in zip(claims, true, strict=True) if claim.type not in ("recent", "next")]
        found = len(wanted & set(claims))
        counts[row] = torch.tensor([len(claims), sum(true), len(facts), sum(facts), len(wanted), found])
    said, right, stated, stated_right, asked, answered = counts.unbind(1)
    return {
        "claim_precision": (right, said), "claim_precision_facts": (stated_right, stated),
        "claims_said": (said, torch.ones_like(said)), "claim_recall": (answered, asked),
    }  # fmt: skip


def average(terms: Terms) -> dict[str, float]:
    """Each measure's value; those without a denominator are left out."""
    sums = {name: (float(top.sum()), float(bottom.sum())) for name, (top, bottom) in terms.items()}
    return {name: top / bottom for name, (top, bottom) in sums.items() if bottom}
