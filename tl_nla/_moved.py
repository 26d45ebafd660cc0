"""Old names that still work for one release: each warns, and names the new one.

A finder on ``sys.meta_path`` gives the module at its new place when it is asked for under its old name. Packages that
gave a name out before ask :func:`old_name` for it. Studies are no part of the installed package, so that their old
names only say where they are now. This module and its uses go with the next release.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from types import ModuleType
from typing import Any

_PACKAGES = {"tl_nla.evaluation": "tl_nla.benchmark", "tl_nla.tensorboard": "tl_nla.reports.tensorboard"}
_MOVED = (  # where, where now, which modules
    ("lightning_modules", "lightning_modules.data", "activations captured documents oracle_data resumable_loader"),
    (
        "lightning_modules",
        "lightning_modules.training",
        "capture contribution diff diff_rewards muon nla_training precision refinement schedules source_encoder "
        "source_training steering trained_only warm_start write_refinement",
    ),
    ("lightning_modules", "lightning_modules.callbacks", "checkpoint_io faithfulness reports resume samples saving"),
    (
        "tl_nla.attribution",
        "tl_nla.reports",
        "contribution_words contributions report report_figures report_schema report_text",
    ),
    ("tl_nla.attribution", "tl_nla.benchmark", "words_only"),
    ("tl_nla.data", "tl_nla.storyworld", "grounding"),
    ("tl_nla", "tl_nla.model", "hooks positions reading sites targets"),
    ("tl_nla.evaluation", "tl_nla.metrics", "probe"),
    ("tl_nla.nla", "tl_nla.model", "families files loading lora saving"),
    ("tl_nla.nla", "tl_nla", "sharing"),
)
_STUDIES = (  # where, which study now, which modules
    ("lightning_modules", "faithfulness", "withholding faithfulness_seeds"),
    ("lightning_modules", "steganography", "stego_sweep stego_runs trained_references"),
    ("lightning_modules", "training", "studies ordered_study confirm_training"),
    ("lightning_modules", "injection", "injection_study"),
    ("lightning_modules", "layers_matrix", "layers_study"),
    ("lightning_modules", "contributions", "words_only"),
    ("lightning_modules", "write_rewards", "write_rewards"),
    ("lightning_modules", "heads", "plateau longer_arms missing_arms untrained_heads"),
    ("lightning_modules", "tiny", "rebuild target"),
    ("tl_nla.evaluation", "nla", "nla_suite nla_rows"),
    ("tl_nla.evaluation", "steganography", "steganography_suite"),
    ("tl_nla.evaluation", "training", "training_suite training_rows"),
    ("tl_nla.evaluation", "steering", "steering_suite"),
    ("tl_nla.evaluation", "contributions", "contributions_suite"),
    ("tl_nla.faithfulness", "steganography", "steganographer"),
)
_NAMES = (  # which package, where now, which names
    ("tl_nla.attribution", "tl_nla.reports", "Cell ContributionReport layer_contributions"),
    ("tl_nla", "tl_nla.adapters", "Adapter"),
    ("tl_nla.data", "tl_nla.storyworld.grounding", "Grounding fit_grounding"),
    ("tl_nla.data", "tl_nla.storyworld.explained", "explain_states"),
    ("tl_nla.data", "tl_nla.storyworld.documents", "world_documents"),
    ("tl_nla.faithfulness", "tl_nla.storyworld.judges", "judge_world"),
    ("tl_nla.nla", "tl_nla.model.cut", "cut_backbone"),
    ("tl_nla.nla", "tl_nla.model.loading", "load_causal_lm load_tokenizer"),
    ("tl_nla.steering", "tl_nla.storyworld.judges", "StoryJudgement judge_story"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.abstention", "SureClause clause_confidences sure_tokens"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.causal", "CausalEffect claim_directions claimed_tokens"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.causal", "outputs_after"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.claims", "Guess Rate ScoredClaim by_distance by_type"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.claims", "distance_buckets precision_by recall_by score_guesses"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.clauses", "Clause join_clauses"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.codes", "cross_errors fve_matrix refitted_errors"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.detectors", "DETECTORS Suspect auc"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.edits", "Edit mean_effects"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.grammar", "made_claims"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.judge", "Agreement ClaimJudge agreement"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.legibility", "token_losses"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.marginal", "TokenMarginal position_matched_excess token_marginals"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.order", "OrderCurves order_curves prefix_curve"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.perturbations", "PERTURBATIONS reworded_by"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.retention", "Retention"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.scoring", "training_mean"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.trust", "PairWords average pair_terms"),
    ("tl_nla.faithfulness", "tl_nla.faithfulness.wordings", "canonical"),
    ("tl_nla.oracle", "tl_nla.oracle.texts", "NOTHING component_words"),
    ("tl_nla.oracle", "tl_nla.oracle.questions", "make_answer"),
    ("tl_nla.oracle", "tl_nla.oracle.verbalizer", "Reader"),
    ("tl_nla.oracle", "tl_nla.oracle.two_explanations", "word_differ"),
    (
        "tl_nla.nla",
        "tl_nla.nla.prompts",
        "TINY_AR_TEMPLATE TINY_AV_TEMPLATE VerbalizerPrompt build_verbalizer_prompt refuse_injection_char",
    ),
    ("tl_nla.steering", "tl_nla.steering.leaks", "Leak leak only shuffled words_told"),
    ("tl_nla.steering", "tl_nla.steering.judges", "Judge match_probability word_distance repetition perplexity"),
)
_RENAMED = {
    "lightning_modules.rebuild_oracle": "lightning_modules.training.oracle_arms",
    "tl_nla.nla.contract": "tl_nla.nla.formats.sidecar",
    "tl_nla.nla.released": "tl_nla.nla.formats.parts",
    "tl_nla.adapters.reader": "tl_nla.adapters.reading",
    "tl_nla.oracle.reader": "tl_nla.oracle.verbalizer",
    "tl_nla.oracle.reader_prompts": "tl_nla.oracle.prompts",
}
MODULES = {f"{old}.{name}": f"{new}.{name}" for old, new, names in _MOVED for name in names.split()} | _RENAMED
STUDIES = {f"{old}.{name}": study for old, study, names in _STUDIES for name in names.split()}
NAMES = {(package, name): new for package, new, names in _NAMES for name in names.split()}


def new_place(name: str) -> str | None:
    """The new full name of a module, or ``None`` where it did not move."""
    if name in MODULES:
        return MODULES[name]
    for old, new in _PACKAGES.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


def old_name(package: str, name: str) -> Any:
    """What a package gave out under a name before.

    Raises:
        AttributeError: when it never did.
    """
    new = NAMES.get((package, name))
    if new is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    _warn(f"{package}.{name}", f"{new}.{name}", 4)
    return getattr(importlib.import_module(new), name)


def _warn(old: str, new: str, level: int) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes with the next release", DeprecationWarning, level)


class _Alias(importlib.abc.Loader):
    """Gives the module at its new place, unchanged."""

    def __init__(self, new: str) -> None:
        self.new = new
        self.spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module itself; its own spec is kept aside, since the import system puts the old name's there."""
        module = importlib.import_module(self.new)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run again."""
        module.__spec__ = self.spec


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules by their old names."""

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The alias of a module that moved; ``None`` for every other."""
        if name in STUDIES:
            study = STUDIES[name]
            raise ModuleNotFoundError(
                f"{name} is part of the study {study!r} now, which a checkout holds: docs/studies/{study}", name=name
            )
        new = new_place(name)
        if new is None:
            return None
        _warn(name, new, 3)
        return importlib.machinery.ModuleSpec(name, _Alias(new), is_package=name in _PACKAGES)


def install() -> None:
    """Put the finder first; once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
