"""What can be given wrong to a pair or an oracle: vectors, texts, ids, generators; each is checked in one place."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.text import checked

_SHOWN = 5


def check_acts(acts: Any, d_model: int, what: str = "activations") -> None:
    """Refuse what cannot be explained.

    Args:
        acts: vectors ``[n, d_model]``.
        d_model: size of the vectors.
        what: how the message names them.

    Raises:
        InputError: for no tensor, an empty batch, a wrong shape, no floating dtype, NaN or infinite values.
    """
    if not isinstance(acts, Tensor):
        raise InputError(f"{what} are {type(acts).__name__}; give a tensor [n, {d_model}]")
    if acts.ndim != 2 or acts.shape[-1] != d_model:
        hint = "; one vector is vector[None]" if acts.shape == (d_model,) else ""
        raise InputError(f"{what} have shape {tuple(acts.shape)}; this NLA reads [n, {d_model}]{hint}")
    if not len(acts):
        raise InputError(f"no {what} were given; at least one row is needed")
    if not acts.is_floating_point():
        raise InputError(f"{what} are {acts.dtype}; give a floating dtype")
    bad = torch.nonzero(~torch.isfinite(acts).all(-1)).flatten().tolist()
    if bad:
        raise InputError(f"{what} hold NaN or infinite values in rows {bad[:_SHOWN]}; leave them out")


def check_texts(texts: Any, what: str = "explanations") -> list[str]:
    """The texts as a list.

    Raises:
        InputError: for a single string, whose letters would pass for texts, for nothing, or for what is no text.
    """
    if isinstance(texts, str | bytes):
        raise InputError(f"{what} are one string ({texts[:40]!r}); give a list of strings, such as [text]")
    if isinstance(texts, Mapping | Tensor) or not isinstance(texts, Iterable):
        raise InputError(f"{what} are {type(texts).__name__}; give a list of strings")
    listed = list(texts)
    if not listed:
        raise InputError(f"no {what} were given; at least one text is needed")
    for number, text in enumerate(listed):
        checked(text, f"text {number}")
    return listed


def check_ids(ids: Any, size: int, what: str = "token ids") -> None:
    """Refuse ids that a vocabulary does not have.

    Args:
        ids: ``[n, pos]``.
        size: number of token embeddings.
        what: how the message names them.

    Raises:
        InputError: for no integer tensor, a wrong shape, nothing, or an id outside of the vocabulary.
    """
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        found = f"a {ids.dtype} tensor" if isinstance(ids, Tensor) else type(ids).__name__
        raise InputError(f"{what} are {found}; give an integer tensor [n, pos]")
    if ids.ndim != 2 or not ids.numel():
        raise InputError(f"{what} have shape {tuple(ids.shape)}; give [n, pos] with at least one id")
    low, high = (int(end) for end in ids.aminmax())
    if low < 0 or high >= size:
        raise InputError(f"{what} run from {low} to {high}; the vocabulary has 0 to {size - 1}")


def check_generator(generator: Any, rows: int, device: torch.device) -> None:
    """Refuse what no samples can be drawn from.

    Args:
        generator: one for all rows, or one a row; ``None`` for torch's own.
        rows: how many there are.
        device: of the model.

    Raises:
        InputError: for anything but generators, another number of them, or one on another device.
    """
    if generator is None:
        return
    if isinstance(generator, torch.Generator):
        if generator.device.type != device.type:
            raise InputError(
                f"the generator is on {generator.device.type}, the model on {device.type}; "
                f"give torch.Generator({device.type!r}), or one a row on the CPU"
            )
        return
    known = isinstance(generator, Sequence) and all(isinstance(one, torch.Generator) for one in generator)
    if not known:
        raise InputError(f"generator is {generator!r}; give torch.Generator().manual_seed(0), or a list of one a row")
    if len(generator) != rows:
        raise InputError(f"{len(generator)} generators for {rows} rows; give one a row, or one for all")
