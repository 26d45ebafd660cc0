"""Heads that others saved as pickles, as safetensors."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.files import first_line
from tl_nla.paths import user_path


def to_safetensors(path: str | Path) -> Path:
    """Write the tensors of a ``.pt`` file to a safetensors file beside it.

    Only tensors, numbers and containers are read (torch's ``weights_only``); code in the file is never run. Nothing in
    this package calls it: convert a file that you trust once.

    Args:
        path: a file of tensors by name.

    Returns:
        The new file.

    Raises:
        InputError: when it is missing, holds anything but tensors, or the new file is there already.

    Example:
        >>> to_safetensors("ar/value_head.pt")
        PosixPath('ar/value_head.safetensors')
    """
    source = user_path(path)
    target = source.with_suffix(".safetensors")
    if target.exists():
        raise InputError(f"{target} is there already; move it away first")
    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers raise what they like
        raise InputError(f"{source} cannot be read as tensors: {first_line(error)}") from error
    if isinstance(found, Tensor):
        found = {"weight": found}
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{source} holds no tensors by name; only those are converted")
    save_file({str(name): value.contiguous() for name, value in found.items()}, target)
    return target
