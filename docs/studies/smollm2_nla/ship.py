"""A trained pair becomes the one that ships, with how it was made."""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from tl_nla.nla.adapted_files import load_adapted
from tl_nla.smollm2.nla import ship_nla

CONFIGS = ("smollm2_nla_reconstructor.yaml", "smollm2_nla_verbalizer.yaml")
_ROOT = Path(__file__).parents[3]


def ship(folder: Path, smol: Any, commit: str) -> None:
    """Write the pair of a training into the package.

    Args:
        folder: that ``SaveNLA`` wrote.
        smol: the target.
        commit: of the code that it was trained with.
    """
    settings = {name: yaml.safe_load((_ROOT / "lightning_modules/configs" / name).read_text()) for name in CONFIGS}
    about = {
        "target_sha256": hashlib.sha256((smol.folder / "model.safetensors").read_bytes()).hexdigest(),
        "data": {name: one["data"]["init_args"] for name, one in settings.items()},
        "steps": {name: one["trainer"]["max_steps"] for name, one in settings.items()},
        "seed": 0, "commit": commit,
    }  # fmt: skip
    ship_nla(load_adapted(str(folder)), smol.model, about)
