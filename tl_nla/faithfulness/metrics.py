"""Faithfulness as torchmetrics objects: claims, retention, the gap between reconstructors."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from tl_nla.faithfulness.claims import CERTAINTIES, score_guesses
from tl_nla.faithfulness.grammar import Truth, check, grammar, made_claims
from tl_nla.faithfulness.wordings import canonical
from tl_nla.metrics import squared_deviations, squared_errors
from tl_nla.metrics.rates import ClasswiseRate


class ClaimPrecision(ClasswiseRate):
    """Share of true claims by type, of explanations whose truth is known; an untold claim is not true."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(grammar().types, "claim_precision/", **kwargs)

    def update(self, texts: Sequence[str], truths: Sequence[Truth]) -> None:  # type: ignore[override]
        """Add explanations with what is known where each was written."""
        pairs = zip(texts, truths, strict=True)
        claims = [(claim, truth) for text, truth in pairs for claim in made_claims(canonical(text), truth)]
        super().update([claim.type for claim, _ in claims], [check(claim, truth) == "true" for claim, truth in claims])


class ClaimCalibration(ClasswiseRate):
    """Share of first guesses that are the model's best next token, by how sure the words are."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(CERTAINTIES, "right/", **kwargs)

    def update(self, texts: Sequence[str], truths: Sequence[Truth]) -> None:  # type: ignore[override]
        """Add explanations with what is known where each was written."""
        guesses = score_guesses([canonical(text) for text in texts], [""] * len(texts), truths)
        super().update([guess.certainty for guess in guesses], [guess.right for guess in guesses])


class _TwoReadings(Metric):
    """Errors of two readings of the same states, summed in float64."""

    is_differentiable = False
    full_state_update = False

    first: Tensor
    second: Tensor
    deviations: Tensor

    def __init__(self, mean: Float[Tensor, " d_model"], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean = mean.detach().double().cpu()
        for name in ("first", "second", "deviations"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, first: Float[Tensor, "n d_model"], second: Float[Tensor, "n d_model"], targets: Float[Tensor, "n d_model"]
    ) -> None:
        """Add rows."""
        self.first = self.first + squared_errors(first, targets).sum()
        self.second = self.second + squared_errors(second, targets).sum()
        self.deviations = self.deviations + squared_deviations(targets, self.mean).sum()

    def _fves(self) -> tuple[Tensor, Tensor]:
        return 1 - self.first / self.deviations, 1 - self.second / self.deviations


class FVERetention(_TwoReadings):
    """FVE of perturbed words over FVE of the words as they were (``first`` before, ``second`` perturbed).

    Args:
        mean: the training set's mean of normalised states.
        kwargs: passed on to ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """Return the ratio; meaningless where the unperturbed words explain next to nothing."""
        before, after = self._fves()
        return after / before


class CrossReconstructorGap(_TwoReadings):
    """FVE under the verbalizer's own reconstructor minus FVE under another (``first`` own, ``second`` other)."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """Return the difference; above 0 where only the own reconstructor can read the words."""
        own, other = self._fves()
        return own - other
