"""Whether the words can be believed: claims, edits, causal checks, perturbations, private codes, detectors."""

from tl_nla._lazy import lazy
from tl_nla.faithfulness.abstention import SureClause, abstain, clause_confidences, sure_tokens, withhold
from tl_nla.faithfulness.causal import CausalEffect, causal_effects, claim_directions, claimed_tokens, outputs_after
from tl_nla.faithfulness.claims import (
    Guess,
    Rate,
    ScoredClaim,
    by_distance,
    by_type,
    distance_buckets,
    precision_by,
    recall_by,
    score_claims,
    score_guesses,
)
from tl_nla.faithfulness.clauses import Clause, join_clauses, split_clauses
from tl_nla.faithfulness.codes import cross_errors, cross_reconstructor_gap, fve_matrix, refitted_errors
from tl_nla.faithfulness.detectors import DETECTORS, Suspect, auc, detect
from tl_nla.faithfulness.edits import Edit, deletions, edit_effects, mean_effects, substitutions
from tl_nla.faithfulness.grammar import made_claims
from tl_nla.faithfulness.judge import Agreement, ClaimJudge, agreement, judge_explanations, judge_quotes
from tl_nla.faithfulness.legibility import token_losses
from tl_nla.faithfulness.marginal import TokenMarginal, position_matched_excess, token_marginals
from tl_nla.faithfulness.order import OrderCurves, order_curves, prefix_curve
from tl_nla.faithfulness.perturbations import PERTURBATIONS, paraphrase, reworded_by
from tl_nla.faithfulness.readers import RidgeReader
from tl_nla.faithfulness.retention import Retention, measure_retention
from tl_nla.faithfulness.scoring import Scorer, training_mean
from tl_nla.faithfulness.trust import PairWords, average, pair_terms
from tl_nla.faithfulness.wordings import canonical

_LAZY = ("ClaimCalibration", "ClaimPrecision", "CrossReconstructorGap", "FVERetention")

__all__ = [  # noqa: RUF022
    "ClaimCalibration", "ClaimPrecision", "CrossReconstructorGap", "FVERetention",
    "Agreement", "CausalEffect", "ClaimJudge", "Clause", "DETECTORS", "Edit", "Guess", "OrderCurves", "PERTURBATIONS",
    "PairWords", "Rate", "Retention", "RidgeReader", "ScoredClaim", "Scorer", "SureClause", "Suspect",
    "TokenMarginal", "abstain", "agreement", "auc", "average", "by_distance", "by_type", "canonical", "causal_effects",
    "claim_directions", "claimed_tokens", "clause_confidences", "cross_errors", "cross_reconstructor_gap", "deletions",
    "detect", "distance_buckets", "edit_effects", "fve_matrix", "join_clauses", "judge_explanations", "judge_quotes",
    "made_claims", "mean_effects", "measure_retention", "order_curves", "outputs_after", "pair_terms",
    "paraphrase", "position_matched_excess", "precision_by", "prefix_curve", "recall_by", "refitted_errors",
    "reworded_by", "score_claims", "score_guesses", "split_clauses", "substitutions", "sure_tokens", "token_losses",
    "token_marginals", "training_mean", "withhold",
]  # fmt: skip

__getattr__ = lazy(__name__, dict.fromkeys(_LAZY, "tl_nla.faithfulness.metrics"))
