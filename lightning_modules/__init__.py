"""Lightning wiring of tl_nla: data modules, modules to fit, callbacks."""

import importlib.util

from tl_nla._lazy import lazy

_HOMES = {
    "ActivationCapture": "training.capture",
    "ActivationDataModule": "data.activations",
    "CapturedDataModule": "data.captured",
    "ContributionDataModule": "training.contribution",
    "ContributionReportCallback": "callbacks.reports",
    "DiffDataModule": "training.diff",
    "DiffNLAReinforcement": "training.diff_rewards",
    "DiffNLATraining": "training.diff",
    "DiffOracleTraining": "training.diff",
    "DocumentDataModule": "data.documents",
    "ExactResume": "callbacks.resume",
    "ExplanationSamples": "callbacks.samples",
    "FaithfulnessCallback": "callbacks.faithfulness",
    "LayerContribution": "training.contribution",
    "NLATraining": "training.nla_training",
    "ReconstructorWarmStart": "training.warm_start",
    "SaveNLA": "callbacks.saving",
    "SaveOracle": "callbacks.saving",
    "SourceDataModule": "training.source_training",
    "SourceEncoderTraining": "training.source_training",
    "SteeringPrompts": "training.steering",
    "SteeringSweep": "training.steering",
    "SteeringWriter": "training.steering",
    "VerbalizerWarmStart": "training.warm_start",
    "WriteRefinementTraining": "training.write_refinement",
}

__all__ = sorted(name for name, home in _HOMES.items() if importlib.util.find_spec(f"{__name__}.{home}"))
__getattr__ = lazy(__name__, {name: f"{__name__}.{_HOMES[name]}" for name in __all__})


def __dir__() -> list[str]:
    return __all__
