"""The results contract: what an evaluation suite writes, checked on the way out and on the way in."""

import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tl_nla.benchmark.bootstrap import Interval
from tl_nla.errors import InputError, unknown
from tl_nla.nla import provenance
from tl_nla.paths import user_path
from tl_nla.whole_file import write_json

SUITES = (
    *("nla", "training", "injection", "layers_matrix", "heads", "layers", "spans", "questions", "contributions"),
    *("steering", "faithfulness", "steganography", "verbalizers"),
)
INJECTION_ARMS = (
    *("constant_0.5", "constant_1", "constant_2", "constant_4", "sqrt_d", "affine", "additive"),
    *("constant_1/3_slots", "sqrt_d/3_slots", "additive/3_slots", "affine/3_slots"),
)
ARMS = (
    *INJECTION_ARMS,
    *("explanation", "warm_start", "sampled", "gold", "cat", "state", "component", "shuffled", "empty", "constant"),
    *("shuffled_writes", "cat_long", "encoder", "own_run"),
    *("mean", "cat_and_explanation", "cat_and_shuffled", "same_twice", "swapped", "probe", "sum_of_heads"),
    *("two_explanations", "unsteered", "round_trip", "append", "edit", "edit_delta", "edit_replace", "caa"),
    *("random_direction", "longer_warm_start", "ordered", "embedded", "prompt_edit", "facts_only", "next_only"),
    *("recent_first", "next_first", "shuffled_order"),
    *("quotes_removed_before", "quotes_removed_after", "attribute_only", "shuffled_rewriters", "shuffled_texts"),
    *("told", "told_and_after", "told_strong", "told_and_after_strong", "told_and_after_adapted"),
    "told_and_after_adapted_strong",
    *("told_patched", "told_and_after_patched", "told_to_last_patched"),
    *("black_box_end", "black_box_start", "black_box_keywords", "black_box_guesses", "black_box_continuation"),
    *("random_vector", "untrained", "logit_lens", "jacobian_lens"),
    *("cheater_quotes", "cheater_letters", "cheater_constant"),
)
METRICS = (
    *("fve", "cosine", "extraction_rate", "claim_precision", "claim_recall", "recall_at_4/promotes"),
    *("recall_at_4/suppresses", "recall_at_3/sources_distant", "auc/skip_flip", "spearman/strength"),
    *("precision_at_3/sources_distant", "recall_at_3/sources_distant_strong"),
    *(
        "precision/nothing",
        "unchanged_rate",
        "antisymmetry",
        "spearman/claims",
        "kl_recovered",
        "success",
        "validity",
        "facts_kept",
    ),
    *("retention", "auc/steganographer", "tokens_to_fve_0.8", "top1_agreement", "changes_answer", "kl"),
    *("precision_at_3/skips", "precision_at_3/direct", "precision_at_3/everywhere", "recall_at_3/fact_sources"),
    *("claim_retention", "deletion_loss", "substitution_loss", "causal_effect", "order_optimality"),
    *("cross_reconstructor_gap", "excess_marginal_fve", "false_alarms", "legibility", "judge_agreement"),
    *("perplexity", "repetition", "distance", "leak", "dealt_success", "named", "probe_accuracy", "probe_follows"),
    *("target_probability", "paraphrase_excess", "legibility_excess", "fve_written", "retention_written"),
    *("claim_precision_facts", "claims_said", "length", "fve_plain", "fve_refitted_claims", "fve_refitted_style"),
    *("fve_plain_written", "fve_refitted_claims_written", "fve_refitted_style_written"),
    *("cross_reconstructor_gap_written", "cross_reconstructor_gap_excess"),
)
TYPED_METRICS = (  # also as claim_precision/TYPE, retention/PERTURBATION, auc/steganographer/DETECTOR, ...
    *("claim_precision", "claim_recall", "retention", "claim_retention", "auc/steganographer", "deletion_loss"),
    *("substitution_loss", "causal_effect", "order_optimality", "cross_reconstructor_gap", "excess_marginal_fve"),
    *("false_alarms", "fve", "judge_agreement", "success", "validity", "kl", "facts_kept"),
    *("named", "probe_accuracy", "probe_follows", "kl_recovered"),
    *("paraphrase_excess", "legibility", "legibility_excess", "fve_written", "retention_written", "extraction_rate"),
    *("claim_precision_facts", "claims_said", "length", "fve_plain", "fve_refitted_claims", "fve_refitted_style"),
    *("fve_plain_written", "fve_refitted_claims_written", "fve_refitted_style_written"),
    *("cross_reconstructor_gap_written", "cross_reconstructor_gap_excess"),
    *("recall_at_4/promotes", "recall_at_4/suppresses", "recall_at_3/sources_distant", "auc/skip_flip"),
    *("recall_at_3/sources_distant_strong", "precision_at_3/sources_distant", "spearman/strength"),
    *("precision/nothing", "unchanged_rate", "antisymmetry"),
    *("score", "headline", "headline_without_text", "leak"),
)
SPLITS = ("heldout", "heldout_heads", "train")


@dataclass(frozen=True)
class Row:
    """One number: an arm × metric × split (× layer, × head; None means the average over them).

    Attributes:
        arm: what was scored, one of ``ARMS``.
        metric: one of ``METRICS``; claim metrics take a type, as in ``claim_precision/place``.
        value: the score.
        ci_low: lower end of the 95% interval, clustered by document; None where there is none.
        ci_high: upper end.
        n: number of items scored.
        split: one of ``SPLITS``.
        layer: the layer, when the row is of one.
        head: the head, when the row is of one.
    """

    arm: str
    metric: str
    value: float
    ci_low: float | None
    ci_high: float | None
    n: int
    split: str = "heldout"
    layer: int | None = None
    head: int | None = None

    def __post_init__(self) -> None:
        """Refuse names outside the contract and numbers that are none."""
        if self.arm not in ARMS:
            raise unknown("arm", self.arm, ARMS)
        if self.metric not in METRICS and not self.metric.startswith(tuple(f"{name}/" for name in TYPED_METRICS)):
            raise unknown("metric", self.metric, METRICS)
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)
        numbers = [self.value, *(end for end in (self.ci_low, self.ci_high) if end is not None)]
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
            raise InputError(f"{self.arm} {self.metric} must have finite numbers, got {numbers}")
        if (self.ci_low is None) != (self.ci_high is None):
            raise InputError(f"{self.arm} {self.metric} has one end of an interval: give both or none")
        if self.ci_low is not None and self.ci_high is not None and self.ci_low > self.ci_high:
            raise InputError(f"{self.arm} {self.metric} has an interval from {self.ci_low} down to {self.ci_high}")
        if self.n < 0:
            raise InputError(f"{self.arm} {self.metric} has n = {self.n}: a count cannot be negative")

    @classmethod
    def of(cls, arm: str, metric: str, interval: Interval, split: str = "heldout", **where: int | None) -> "Row":
        """Make a row from an interval; `where` may give ``layer`` and ``head``."""
        low, high = (None if math.isnan(x) else x for x in (interval.low, interval.high))
        return cls(arm, metric, interval.value, low, high, interval.n, split, **where)

    def as_dict(self) -> dict[str, Any]:
        """The row as the contract writes it: ``layer`` and ``head`` only where they apply."""
        given = asdict(self)
        return {k: v for k, v in given.items() if v is not None or k not in ("layer", "head")}


@dataclass(frozen=True)
class Results:
    """What a suite found.

    Attributes:
        suite: one of ``SUITES``.
        model: the name of the model: ``tiny``, a folder or a hub id.
        seeds: seeds of the trained models that the numbers are over.
        definition: what the numbers mean: how FVE is defined, which positions, which texts, what is shipped.
        rows: the numbers.
        seconds: how long the suite took.
        versions: versions of what the numbers depend on.
    """

    suite: str
    model: str
    seeds: list[int]
    definition: dict[str, Any]
    rows: list[Row]
    seconds: float
    versions: dict[str, str] = field(default_factory=lambda: versions())

    def __post_init__(self) -> None:
        """Refuse an unknown suite and two numbers for one thing."""
        if self.suite not in SUITES:
            raise unknown("suite", self.suite, SUITES)
        keys = [(r.arm, r.metric, r.split, r.layer, r.head) for r in self.rows]
        twice = next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None
        if twice:
            raise InputError(f"two rows for {twice}: one a combination of arm, metric, split, layer and head")

    def as_dict(self) -> dict[str, Any]:
        """The object of the results contract."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**own, "rows": [row.as_dict() for row in self.rows]}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file, whole or not at all."""
        write_json(self.as_dict(), path)


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read and check a results file.

    Raises:
        InputError: when the file is not JSON, or keys are missing, unknown or hold what the contract does not allow.
    """
    try:
        found = json.loads(user_path(path).read_text(encoding="utf-8-sig"))
        rows = [Row(**row) for row in found["rows"]]
        return Results(**{**found, "rows": rows})
    except FileNotFoundError as error:
        raise InputError(f"no results file {str(path)!r}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, InputError) as error:
        raise InputError(f"{str(path)!r} is no results file: {error}") from error


def versions() -> dict[str, str]:
    """Versions of what numbers depend on: this package, Python, and the libraries below it."""
    names = ("tl-nla", "torch", "transformer-lens", "transformers", "lightning", "torchmetrics")
    return {"python": platform.python_version(), **provenance.versions(names)}
