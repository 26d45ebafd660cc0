"""Estimates of what a YAML file describes: its settings are read, nothing of it is made."""

from pathlib import Path
from typing import Any

from lightning_modules.cli import CheckingCLI
from tl_nla.benchmark.estimate import Estimate, Workload, estimate
from tl_nla.errors import InputError, unknown
from tl_nla.model.sites import Site
from tl_nla.paths import user_path

_TASKS = {"VerbalizerWarmStart": "verbalizer", "ReconstructorWarmStart": "reconstructor", "NLATraining": "reward",
          "DiffOracleTraining": "oracle", "DiffNLATraining": "oracle-reconstructor"}  # fmt: skip


class EstimatingCLI(CheckingCLI):
    """Reads a command line and its files, and makes nothing of them."""

    def instantiate_classes(self) -> None:
        """Make nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def estimate_of(config: Any) -> Estimate:
    """The estimate of a training by its settings.

    Args:
        config: of ``fit``, as :class:`EstimatingCLI` read it.

    Raises:
        InputError: for a module that there is no estimate of, or a model without configuration.
    """
    kind = str(config.model.class_path).rpartition(".")[2]
    if kind not in _TASKS:
        raise unknown("module with an estimate", kind, _TASKS)
    model, data = config.model.init_args, getattr(config.data, "init_args", None)
    policy, rollouts, lora = (getattr(model, name, None) for name in ("policy", "rollouts", "lora"))
    work = Workload(
        batch_size=_of(data, "batch_size", 32), tokens=_of(rollouts, "max_new_tokens", 150), layer=_layer(model, data),
        group=_of(rollouts, "group", 8), sampled=_of(rollouts, "batch_size", None),
        micro_batch=_of(policy, "micro_batch", None), accumulate=_of(policy, "accumulate", 1),
        checkpointing=bool(_of(policy, "gradient_checkpointing", False)),
        reference=_of(policy, "kl_weight", 0.01) > 0,
    )  # fmt: skip
    precision = "bf16-mixed" if "bf16" in str(config.trainer.precision) else "32-true"
    dtype = str(_of(lora, "dtype", "float32") or "float32")
    return estimate(_named(model, data), _TASKS[kind], work, dtype, precision, _of(lora, "rank", None),
                    _of(model, "optimizer", "adamw"))  # fmt: skip


def _of(settings: Any, name: str, other: Any) -> Any:
    found = getattr(settings, name, None)
    return other if found is None else found


def _named(model: Any, data: Any) -> Any:
    """The pair's verbalizer where it is there, else the model that is named, or that the data come from."""
    own = user_path(model.model)
    if (own / "av" / "config.json").is_file():
        return own / "av"
    if (own / "config.json").is_file():
        return own
    found = _of(data, "model", model.model)
    if not isinstance(found, str | Path):
        raise InputError("the model is given as an object; name a folder or hub id for an estimate")
    return found


def _layer(model: Any, data: Any) -> int | None:
    if (own := _of(model, "layer", None)) is not None:
        return int(own)
    site = _of(data, "site", None)
    return None if site is None else Site.parse(str(site)).layer
