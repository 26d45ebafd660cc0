"""What a machine and an installation have: versions, devices, matrix units, TensorBoard's tab, models in reach."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from dataclasses import asdict, dataclass

from tl_nla import __version__
from tl_nla.errors import InputError

_NEEDED = ("torch", "transformer-lens", "transformers", "lightning", "torchmetrics", "tensorboard")
_EXTRAS = {"cli": "jsonargparse", "lora": "peft", "plots": "matplotlib", "int8": "torchao", "nf4": "bitsandbytes"}
_OLDEST = (3, 10)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        state: ``"ok"``; ``"absent"``, where tl-nla works without it; ``"missing"``, where it does not.
        found: what was found.
        remedy: what to do about it; empty when nothing need be done.
    """

    name: str
    state: str
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding for JSON."""
        return asdict(self)


def look() -> list[Finding]:
    """Look at this machine; nothing is downloaded and no model is loaded.

    Returns:
        Findings in the order in which they should be read.

    Example:
        >>> [finding.name for finding in look() if finding.state == "missing"]
        []
    """
    return [*_versions(), *_extras(), *_devices(), _precision(), _tab(), *_models()]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> list[Finding]:
    installed = _version("tl-nla")
    # An editable installation keeps the number that it was made with.
    stale = f" (installed as {installed})" if installed and installed != __version__ else ""
    found = [
        Finding(
            "tl-nla",
            "ok" if installed else "missing",
            f"{__version__}{stale}" if installed else "not installed",
            "pip install -e ." if stale or not installed else "",
        ),
        Finding(
            "python",
            "ok" if sys.version_info >= _OLDEST else "missing",
            f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            "" if sys.version_info >= _OLDEST else "install Python 3.10 or newer",
        ),
    ]
    for name in _NEEDED:
        version = _version(name)
        remedy = "" if version else f"pip install {name}"
        found.append(Finding(name, "ok" if version else "missing", version or "not installed", remedy))
    return found


def _extras() -> list[Finding]:
    found = []
    for extra, name in _EXTRAS.items():
        version = _version(name)
        remedy = "" if version else f"pip install 'tl-nla[{extra}]'"
        found.append(
            Finding(f"extra {extra}", "ok" if version else "absent", f"{name} {version or 'not installed'}", remedy)
        )
    return found


def _devices() -> list[Finding]:
    import torch

    memory = f", {_memory() / 1e9:.0f} GB of memory" if _memory() else ""
    found = [Finding("cpu", "ok", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for torch{memory}")]
    for number in range(torch.cuda.device_count()):
        told = torch.cuda.get_device_properties(number)
        found.append(Finding(f"cuda:{number}", "ok", f"{told.name}, {told.total_memory / 1e9:.0f} GB"))
    if torch.backends.mps.is_available():
        found.append(Finding("mps", "ok", "available"))
    if len(found) == 1:
        found.append(Finding("gpu", "absent", "none; small models run on the CPU"))
    return found


def _memory() -> int:
    """Bytes of main memory; 0 where the system does not say."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _precision() -> Finding:
    from tl_nla.model.processor import MATRIX_UNIT, VECTOR_UNIT, processor_units

    units = processor_units()
    if MATRIX_UNIT in units:
        return Finding("processor", "ok", f"{', '.join(units)}: --dtype bfloat16 is fastest here")
    told = ", ".join(units) or "units not known on this system"
    if VECTOR_UNIT in units:
        return Finding("processor", "ok", f"{told}: long texts and trainings run faster with --dtype bfloat16")
    return Finding("processor", "ok", f"{told}; no unit for bfloat16, so that float32 is fastest on this CPU")


def _tab() -> Finding:
    names = [entry.name for entry in importlib.metadata.entry_points(group="tensorboard_plugins")]
    if "tl_nla_contributions" in names:
        return Finding("TensorBoard tab", "ok", "Contributions is registered")
    return Finding("TensorBoard tab", "absent", "not registered", "pip install -e . where TensorBoard runs")


def _models() -> list[Finding]:
    from tl_nla import plugins

    found = []
    try:
        plugins.part("tiny", "target")
        found.append(Finding("model tiny", "ok", "comes with the package"))
    except InputError as error:
        found.append(Finding("model tiny", "missing", str(error), "install tl-nla again"))
    for name in plugins.named_models():
        plugin = plugins.named(name)
        place = plugin.local_place() if plugin else None
        remedy = "" if place else f"make {name}"
        found.append(Finding(f"model {name}", "ok" if place else "absent", place or "not on this machine", remedy))
    cached = _cached_models()
    told = ", ".join(cached[:8]) + (f" and {len(cached) - 8} more" if len(cached) > 8 else "")
    found.append(Finding("hub cache", "ok" if cached else "absent", told or "no model in it"))
    return found


def _cached_models() -> list[str]:
    """Models in the cache of the Hugging Face hub; none where there is no cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model")
    except CacheNotFound:
        return []
