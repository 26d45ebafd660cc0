"""Reconstructors fitted in closed form: ridge regression on what a text claims, and on how it says it.

They read meaning only, or meaning and style, by construction, which no trained transformer does. The first is the
honest reference of the steganography suite, the second the accomplice of the planted steganographer.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.faithfulness.clauses import split_clauses
from tl_nla.faithfulness.grammar import parse_claims
from tl_nla.faithfulness.wordings import canonical, read_form
from tl_nla.metrics import normalise
from tl_nla.metrics.ridge import fit_ridge

_CERTAINTY = re.compile(r"Next: (\w+)")


def meaning_features(text: str) -> list[str]:
    """What the text says, whatever its wording and order: one feature a claim, a value and a certainty."""
    plain = canonical(text)
    features = []
    for claim in parse_claims(plain):
        place = claim.subject if claim.type == "recent" else ""
        features.append(f"{claim.type}/{place}/{claim.value}")
    certainty = _CERTAINTY.search(plain)
    return features + ([f"certainty/{certainty.group(1)}"] if certainty else [])


def style_features(text: str) -> list[str]:
    """How the text says it: the form of each claim, and where each stands."""
    clauses = [clause.text for clause in split_clauses(text)]
    known = [(place, form) for place, clause in enumerate(clauses) if (form := read_form(clause)) is not None]
    forms = [f"form/{kind}/{number}" for _, (kind, number, _) in known]
    return forms + [f"place/{kind}/{place}" for place, (kind, _, _) in known]


@dataclass(frozen=True)
class RidgeReader:
    """A reconstructor: ridge regression from features of a text to the normalised state.

    Attributes:
        features: known features, in the order of the weights' rows.
        weights: what each adds, ``[features, d_model]``.
        mean: of the training states; a text without known features is read as it.
        style: whether wording and order are read too.
    """

    features: dict[str, int]
    weights: Float[Tensor, "features d_model"]
    mean: Float[Tensor, " d_model"]
    style: bool

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        acts: Float[Tensor, "n d_model"],
        style: bool = False,
        decay: float = 3.0,
        least: int = 3,
    ) -> "RidgeReader":
        """Fit on texts about states.

        Args:
            texts: one a state.
            acts: the states.
            style: read wording and order too.
            decay: ridge penalty, in rows.
            least: features of fewer texts are left out.

        Raises:
            InputError: when there is not one text a state, or no text has a feature.
        """
        if len(texts) != len(acts):
            raise InputError(f"{len(texts)} texts for {len(acts)} states: give one text a state")
        rows = [_features(text, style) for text in texts]
        counts = Counter(name for row in rows for name in set(row))
        known = {name: place for place, name in enumerate(name for name, count in counts.items() if count >= least)}
        if not known:
            raise InputError(f"no claim in the embedded world's form stands in {least} of the texts: nothing to read")
        fitted = fit_ridge(_indicators(rows, known), normalise(acts), decay, relative=False, centre=False)
        return cls(known, fitted.weight.float(), fitted.target_mean.float(), style)

    def reconstruct(self, texts: list[str]) -> Float[Tensor, "n d_model"]:
        """Vectors of texts, normalised in length up to the fit."""
        inputs = _indicators([_features(text, self.style) for text in texts], self.features)
        return self.mean + inputs.float() @ self.weights


def _features(text: str, style: bool) -> list[str]:
    return meaning_features(text) + (style_features(text) if style else [])


def _indicators(rows: Sequence[Sequence[str]], known: dict[str, int]) -> Float[Tensor, "n features"]:
    inputs = torch.zeros(len(rows), len(known), dtype=torch.float64)
    for row, names in enumerate(rows):
        places = [known[name] for name in names if name in known]
        inputs[row, places] = 1.0
    return inputs
