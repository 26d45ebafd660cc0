"""Lightning wiring of tl_nla: data modules, modules to fit, callbacks."""

import importlib.util

from tl_nla._lazy import lazy

_HOMES = {
    "ActivationCapture": "capture",
    "ActivationDataModule": "activations",
    "CapturedDataModule": "captured",
    "ContributionDataModule": "contribution",
    "ContributionReportCallback": "reports",
    "DiffDataModule": "diff",
    "DiffNLAReinforcement": "diff_rewards",
    "DiffNLATraining": "diff",
    "DiffOracleTraining": "diff",
    "DocumentDataModule": "documents",
    "ExactResume": "resume",
    "ExplanationSamples": "samples",
    "FaithfulnessCallback": "faithfulness",
    "LayerContribution": "contribution",
    "NLATraining": "nla_training",
    "ReconstructorWarmStart": "warm_start",
    "SaveNLA": "saving",
    "SaveOracle": "saving",
    "SourceDataModule": "source_training",
    "SourceEncoderTraining": "source_training",
    "SteeringPrompts": "steering",
    "SteeringSweep": "steering",
    "SteeringWriter": "steering",
    "VerbalizerWarmStart": "warm_start",
    "WriteRefinementTraining": "write_refinement",
}

__all__ = sorted(name for name, home in _HOMES.items() if importlib.util.find_spec(f"{__name__}.{home}"))
__getattr__ = lazy(__name__, {name: f"{__name__}.{_HOMES[name]}" for name in __all__})


def __dir__() -> list[str]:
    return __all__
