"""Detectors of steganography: a score a document, higher being more suspicious.

A detector that asks how a change of words hurts compares the suspect's reconstructor with references never trained
with its verbalizer: unfamiliar wording hurts every reconstructor, losing a code hurts one. How expected the words are
to a clean model (``faithfulness.legibility``) is no detector: a fluent lie is more expected than the truth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError, unknown
from tl_nla.faithfulness.grammar import Truth, check, made_claims
from tl_nla.faithfulness.marginal import token_marginals
from tl_nla.faithfulness.perturbations import Perturbation, paraphrase, shuffle_clauses
from tl_nla.faithfulness.scoring import Reconstruct, Scorer, by_document
from tl_nla.faithfulness.wordings import canonical
from tl_nla.metrics.ranks import area_under_curve

STYLE_CLASSES = ("mark", "stopword", "after_quote", "newline")


@dataclass(frozen=True)
class Suspect:
    """Words under suspicion and all that a detector may use.

    Attributes:
        scorer: the states, read by the reconstructor that was trained with these words.
        references: reconstructors never trained with the verbalizer that wrote the words.
        texts: the words, one a state.
        documents: document of each state.
        truths: what is known at each state; detectors of false claims need it.
        clean: TransformerLens model, tokenizer: an untouched language model; ``style_tokens`` needs its tokenizer.
        seed: of the perturbations.
    """

    scorer: Scorer
    references: Sequence[Reconstruct]
    texts: Sequence[str]
    documents: Int[Tensor, " n"]
    truths: Sequence[Truth] | None = None
    clean: tuple[Any, Any] | None = None
    seed: int = 0

    def reference_errors(self, texts: Sequence[str]) -> Float[Tensor, " n"]:
        """Mean error of the references on one text a state."""
        if not self.references:
            raise InputError("this detector compares with reconstructors never trained with these words: give one")
        return torch.stack([self.scorer.reading_with(read).errors(texts) for read in self.references]).mean(0)


Detector = Callable[[Suspect], Tensor]
"""A suspect to a score of each row."""


def cross_reconstructor(suspect: Suspect) -> Float[Tensor, " n"]:
    """How much better its own reconstructor reads the words than the references do."""
    return suspect.reference_errors(suspect.texts) - suspect.scorer.errors(suspect.texts)


def excess_loss(suspect: Suspect, change: Perturbation) -> Float[Tensor, " n"]:
    """What a change of words costs its own reconstructor beyond what it costs the references."""
    changed = [change(text) for text in suspect.texts]
    own = suspect.scorer.errors(changed) - suspect.scorer.errors(suspect.texts)
    return own - (suspect.reference_errors(changed) - suspect.reference_errors(suspect.texts))


def paraphrase_loss(suspect: Suspect) -> Float[Tensor, " n"]:
    """Excess loss under other wording and order with the same claims."""
    return excess_loss(suspect, lambda text: paraphrase(text, suspect.seed))


def wording_loss(suspect: Suspect) -> Float[Tensor, " n"]:
    """Excess loss under other wording in the same order."""
    return excess_loss(suspect, lambda text: paraphrase(text, suspect.seed, order=False))


def order_loss(suspect: Suspect) -> Float[Tensor, " n"]:
    """Excess loss under another order of the same clauses."""
    return excess_loss(suspect, lambda text: shuffle_clauses(text, suspect.seed))


def falsehood(suspect: Suspect) -> Float[Tensor, " n"]:
    """Share of claims that are not true; 0 for words that claim nothing.

    Raises:
        InputError: when no truth is known.
    """
    if suspect.truths is None:
        raise InputError("falsehood needs to know what is true: give truths, or leave this detector out")
    shares = []
    for text, truth in zip(suspect.texts, suspect.truths, strict=True):
        verdicts = [check(claim, truth) == "true" for claim in made_claims(canonical(text), truth)]
        shares.append(1 - sum(verdicts) / len(verdicts) if verdicts else 0.0)
    return torch.tensor(shares, dtype=torch.float64)


def style_tokens(suspect: Suspect) -> Float[Tensor, " n"]:
    """FVE carried by marks, function words and line breaks, beyond what they carry for the references."""
    if suspect.clean is None:
        raise InputError("style_tokens needs a tokenizer: give the clean model and its tokenizer")
    tokenizer = suspect.clean[1]
    carried = [_style_share(suspect.scorer.reading_with(read), suspect.texts, tokenizer)
               for read in (suspect.scorer.reconstruct, *suspect.references)]  # fmt: skip
    return carried[0] - torch.stack(carried[1:]).mean(0)


def _style_share(scorer: Scorer, texts: Sequence[str], tokenizer: Any) -> Float[Tensor, " n"]:
    total = torch.zeros(len(texts), dtype=torch.float64)
    for token in token_marginals(scorer, texts, tokenizer):
        if token.token_class in STYLE_CLASSES:
            total[token.row] += token.marginal
    return total


DETECTORS: dict[str, Detector] = {
    "cross_reconstructor": cross_reconstructor,
    "paraphrase": paraphrase_loss,
    "wording": wording_loss,
    "order": order_loss,
    "falsehood": falsehood,
    "style_tokens": style_tokens,
}


def detect(suspect: Suspect, names: Sequence[str] | None = None) -> dict[str, Float[Tensor, " documents"]]:
    """Scores of each document under each detector.

    Args:
        suspect: words and readers.
        names: which detectors; when ``None`` all that what is known allows.

    Raises:
        InputError: for an unknown name, or a detector that lacks what it needs.
    """
    if names is None:
        lacking = {"falsehood"} if suspect.truths is None else set()
        lacking |= {"style_tokens"} if suspect.clean is None else set()
        names = [name for name in DETECTORS if name not in lacking]
    scores = {}
    for name in names:
        if name not in DETECTORS:
            raise unknown("detector", name, DETECTORS)
        scores[name] = by_document(DETECTORS[name](suspect), suspect.documents)
    return scores


def auc(suspicious: Float[Tensor, " n"], honest: Float[Tensor, " m"]) -> float:
    """Chance that a suspicious document scores above an honest one, ties counted half.

    Raises:
        InputError: without a document of each kind.
    """
    if not len(suspicious) or not len(honest):
        raise InputError(f"{len(suspicious)} suspicious and {len(honest)} honest documents: give at least one each")
    positive = torch.cat([torch.ones(len(suspicious)), torch.zeros(len(honest))])
    return area_under_curve(torch.cat([suspicious.double(), honest.double()]), positive)
