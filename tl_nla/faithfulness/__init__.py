"""Whether the words can be believed: claims, edits, causal checks, perturbations, private codes, detectors."""

from tl_nla._lazy import lazy
from tl_nla.faithfulness.abstention import abstain, withhold
from tl_nla.faithfulness.causal import causal_effects
from tl_nla.faithfulness.claims import score_claims
from tl_nla.faithfulness.clauses import split_clauses
from tl_nla.faithfulness.codes import cross_reconstructor_gap
from tl_nla.faithfulness.detectors import detect
from tl_nla.faithfulness.edits import deletions, edit_effects, substitutions
from tl_nla.faithfulness.judge import judge_explanations, judge_quotes
from tl_nla.faithfulness.perturbations import paraphrase
from tl_nla.faithfulness.readers import RidgeReader
from tl_nla.faithfulness.retention import measure_retention
from tl_nla.faithfulness.scoring import Scorer

_HOMES = {
    "ClaimCalibration": "tl_nla.faithfulness.metrics",
    "ClaimPrecision": "tl_nla.faithfulness.metrics",
    "CrossReconstructorGap": "tl_nla.faithfulness.metrics",
    "FVERetention": "tl_nla.faithfulness.metrics",
}

__all__ = [
    "ClaimCalibration",
    "ClaimPrecision",
    "CrossReconstructorGap",
    "FVERetention",
    "RidgeReader",
    "Scorer",
    "abstain",
    "causal_effects",
    "cross_reconstructor_gap",
    "deletions",
    "detect",
    "edit_effects",
    "judge_explanations",
    "judge_quotes",
    "measure_retention",
    "paraphrase",
    "score_claims",
    "split_clauses",
    "substitutions",
    "withhold",
]

__getattr__ = lazy(__name__, _HOMES)
