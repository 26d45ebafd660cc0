"""The mean of several trainings of a small pair."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tl_nla.errors import InputError
from tl_nla.finite import check_finite
from tl_nla.model.files import read_json, read_safetensors
from tl_nla.nla.adapted_files import SETTINGS, WEIGHTS, saved_config
from tl_nla.outputs import check_folder
from tl_nla.paths import user_path
from tl_nla.whole_file import write_json


def average_adapted(folders: Sequence[str | Path], out: str | Path, about: Any = None) -> None:
    """Write the mean of the trained tensors of small pairs, as a pair of its own.

    Trainings that went on from one pair stay near to each other. Their mean is then a pair as well, often a better one
    (Wortsman et al. 2022, model soups). Adapters are averaged factor by factor, so their products are not averaged
    exactly. Pairs that were trained from different starts have no useful mean. Score it before you use it.

    Args:
        folders: of pairs that :func:`tl_nla.nla.adapted_files.save_adapted` wrote, two or more, each once or more often
            (twice the weight).
        out: folder of the mean; another one than those that are read.
        about: anything for JSON that is kept beside the settings.

    Raises:
        InputError: for fewer than two folders, pairs of different settings, targets or shapes, or ``out`` among the
            folders.

    Example:
        >>> average_adapted(["runs/first", "runs/second"], "runs/mean")
    """
    if isinstance(folders, str) or not isinstance(folders, Sequence) or len(folders) < 2:
        raise InputError(f"folders is {folders!r}; a mean needs two pairs or more, give a list of their folders")
    places, out = [user_path(folder) for folder in folders], user_path(out)
    if out.resolve() in [place.resolve() for place in places]:
        raise InputError(f"{out} is one of the pairs that are averaged; give another folder")
    told = [(saved_config(place), read_json(place / SETTINGS).get("base")) for place in places]
    tensors = [read_safetensors(place / WEIGHTS) for place in places]
    shapes = [{name: tensor.shape for name, tensor in one.items()} for one in tensors]
    for place, own, shape in zip(places[1:], told[1:], shapes[1:], strict=True):
        if own != told[0] or shape != shapes[0]:
            raise InputError(
                f"{place} is a pair of other settings, target or shapes than {places[0]}; average like ones"
            )
    mean = {name: torch.stack([one[name].float() for one in tensors]).mean(0) for name in tensors[0]}
    check_finite(mean, "the mean")
    check_folder(out).mkdir(parents=True, exist_ok=True)
    part = out / f".{WEIGHTS}"
    save_file({name: value.contiguous() for name, value in mean.items()}, part)
    part.chmod(0o644)
    part.replace(out / WEIGHTS)
    settings = read_json(places[0] / SETTINGS)
    write_json({**settings, "about": about, "mean_of": [str(folder) for folder in folders]}, out / SETTINGS)
