"""How much of FVE and of the claims survives a change of the words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tl_nla.faithfulness.grammar import parse_claims
from tl_nla.faithfulness.perturbations import PERTURBATIONS, Perturbation
from tl_nla.faithfulness.scoring import Scorer
from tl_nla.faithfulness.wordings import canonical


@dataclass(frozen=True)
class Retention:
    """What one perturbation leaves.

    Attributes:
        errors: error of each perturbed text; 1 - mean is its FVE.
        before: error of each unperturbed text.
        claims_before: claims of each unperturbed text.
        claims_kept: how many of them the perturbed text still makes.
    """

    errors: Float[Tensor, " n"]
    before: Float[Tensor, " n"]
    claims_before: list[int]
    claims_kept: list[int]

    @property
    def fve(self) -> float:
        """FVE(perturbed) / FVE(original); negative where the perturbed words are worse than the mean."""
        return (1 - float(self.errors.mean())) / (1 - float(self.before.mean()))

    @property
    def loss(self) -> Float[Tensor, " n"]:
        """Growth of each row's error: a loss of FVE, row by row."""
        return self.errors - self.before

    @property
    def claims(self) -> float:
        """Share of claims kept; NaN when there were none."""
        said = sum(self.claims_before)
        return sum(self.claims_kept) / said if said else float("nan")


def measure_retention(
    scorer: Scorer, texts: Sequence[str], perturbations: Mapping[str, Perturbation] | None = None
) -> dict[str, Retention]:
    """Read every text before and after each perturbation.

    Args:
        scorer: reconstructor and states.
        texts: explanations, one a state.
        perturbations: by name; all of :data:`PERTURBATIONS` when ``None``.

    Returns:
        One entry a perturbation. Claims are compared after rewording both texts to the first forms, so that a
        paraphrase loses none by being one.
    """
    before = scorer.errors(texts)
    said = [set(parse_claims(canonical(text))) for text in texts]
    results = {}
    for name, change in (PERTURBATIONS if perturbations is None else perturbations).items():
        changed = [change(text) for text in texts]
        kept = [len(own & set(parse_claims(canonical(text)))) for own, text in zip(said, changed, strict=True)]
        results[name] = Retention(scorer.errors(changed), before, [len(own) for own in said], kept)
    return results
