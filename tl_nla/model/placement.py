"""Where, in which precision and in how many bits a model is held: checked before anything is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tl_nla.errors import InputError, unknown
from tl_nla.model.quantised import known_scheme, quantization_settings

PRECISIONS = ("float32", "bfloat16", "float16", "auto")
_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True)
class Placement:
    """Precision and devices of a model's weights.

    Attributes:
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``: what the model's configuration says.
        device: such as ``"cpu"`` (also when ``None``), ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        device_map: layers on several devices, as accelerate takes it: ``"auto"``, ``"balanced"``, or a mapping of
            module names to devices. It excludes ``device``.
        quantization: ``"int8"`` or ``"nf4"`` for the weights of linear layers, see
            :mod:`tl_nla.model.quantised`; ``dtype`` is then that of everything else. Plain weights when ``None``.

    Raises:
        InputError: for an unknown precision or quantization, a device or library that this machine lacks, or both
            ``device`` and ``device_map``.
    """

    dtype: str = "float32"
    device: str | None = None
    device_map: str | Mapping[str, Any] | None = None
    quantization: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in PRECISIONS:
            raise unknown("precision", self.dtype, PRECISIONS)
        if self.device is not None:
            known_device(self.device)
        if self.quantization is not None:
            known_scheme(self.quantization)
        if self.device_map is None:
            return
        if self.device is not None:
            raise InputError(
                f"device is {self.device!r} and device_map {self.device_map!r}; give one: the map places every layer"
            )
        if isinstance(self.device_map, str) and self.device_map not in _MAPS:
            raise unknown("device_map", self.device_map, _MAPS)

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The precision for torch; ``None`` for ``"auto"``."""
        return None if self.dtype == "auto" else getattr(torch, self.dtype)

    def settings(self) -> dict[str, Any]:
        """What transformers' ``from_pretrained`` takes beside the precision."""
        scheme, plain = self.quantization, self.quantization is None
        said = {} if scheme is None else {"quantization_config": quantization_settings(scheme, self.torch_dtype)}
        if self.device_map is not None:
            return {
                "device_map": self.device_map if isinstance(self.device_map, str) else dict(self.device_map),
                **said,
            }
        return {} if plain and self.device in (None, "cpu") else {"device_map": {"": self.device or "cpu"}, **said}


def known_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A precision for torch: given as torch's own, or by its name; ``None`` (or ``"auto"``) for that of the files.

    Raises:
        InputError: for an unknown name.
    """
    return Placement(dtype).torch_dtype if isinstance(dtype, str) else dtype


def known_device(name: str) -> str:
    """The name itself.

    Raises:
        InputError: when torch knows no such device, or this machine has none.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device is {name!r}, which cannot be used here ({str(error).splitlines()[0]}). Give 'cpu', or a device "
            "that this machine and its build of torch have"
        ) from error
    return name
