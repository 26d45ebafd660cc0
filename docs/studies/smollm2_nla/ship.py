"""A trained pair becomes the one that ships, with how it was made."""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from docs.studies.smollm2_nla.own_words import BATCH, RATE, ROWS
from tl_nla.cli.training import configs_folder
from tl_nla.nla.adapted_files import load_adapted
from tl_nla.smollm2.nla import ship_nla

CONFIGS = ("smollm2_nla_reconstructor.yaml", "smollm2_nla_verbalizer.yaml")


def ship(folder: Path, smol: Any, commit: str, note: str = "") -> None:
    """Write the pair of a training into the package.

    Args:
        folder: that ``SaveNLA`` wrote.
        smol: the target.
        commit: of the code that it was trained with.
        note: what the settings do not tell, such as steps of an earlier run that was gone on with.
    """
    settings = {name: yaml.safe_load((configs_folder() / name).read_text(encoding="utf-8")) for name in CONFIGS}
    about = {
        "target_sha256": hashlib.sha256((smol.folder / "model.safetensors").read_bytes()).hexdigest(),
        "data": {name: one["data"]["init_args"] for name, one in settings.items()},
        "steps": {name: one["trainer"]["max_steps"] for name, one in settings.items()},
        "own_words": {"rows": 2 * ROWS, "batch_size": BATCH, "learning_rate": RATE}, "seed": 0,
        "commit": commit, "note": note,
    }  # fmt: skip
    ship_nla(load_adapted(str(folder)), smol.model, about)
