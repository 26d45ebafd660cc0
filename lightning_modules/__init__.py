"""Lightning wiring of tl_nla: data modules, modules to fit, callbacks."""

import importlib
import importlib.util
from typing import Any

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


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(
            f"module 'lightning_modules' has no attribute {name!r}; public names: {', '.join(__all__)}"
        )
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
