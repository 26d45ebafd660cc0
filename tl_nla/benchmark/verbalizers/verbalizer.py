"""Anything that tells vectors in words, behind one interface."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.faithfulness.scoring import Reconstruct
from tl_nla.nla import NLA, ActivationOracle
from tl_nla.nla.activation_oracle import Asking
from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.formats.unreadable import is_oracle

QUESTION = "What is this text about, and which words come next?"
_CAP = 110


@dataclass(frozen=True)
class Verbalizer:
    """What is benchmarked.

    Attributes:
        name: for tables and kept parts.
        say: vectors to texts.
        again: the same at temperature 1; ``None`` where it cannot be sampled.
        reconstruct: its own reader of its words, if it has one.
        layer: K that it was made for, if it says.
        mark: of its weights, so that kept words of other weights are not taken for its own; empty for a function.
    """

    name: str
    say: Callable[[Tensor], Sequence[str]] = field(repr=False)
    again: Callable[[Tensor, int], Sequence[str]] | None = field(default=None, repr=False)
    reconstruct: Reconstruct | None = field(default=None, repr=False)
    layer: int | None = None
    mark: str = ""


def as_verbalizer(
    given: Any, layer: int | None = None, name: str | None = None, dtype: torch.dtype | None = torch.float32
) -> Verbalizer:  # fmt: skip
    """Take a pair, an activation oracle, a released folder, or a function.

    Args:
        given: a :class:`tl_nla.NLA` or a :class:`tl_nla.ActivationOracle`. Also the folder or hub id of one of any
            released family, or two of them for a pair (verbalizer and reconstructor). Also a function from ``[n,
            d_model]`` to n texts.
        layer: the block whose outputs are told; needed for a function, and for an oracle of many layers.
        name: for tables.
        dtype: of weights that are loaded from a folder.

    Raises:
        InputError: for anything else.

    Example:
        >>> as_verbalizer(lambda acts: ["a cat"] * len(acts), layer=2)
    """
    if isinstance(given, Verbalizer):
        return given
    if isinstance(given, str | Path):
        given = [given]
    if isinstance(given, list | tuple) and 0 < len(given) < 3:
        name = name or Path(str(given[0])).name
        oracle = len(given) == 1 and is_oracle(Listing.of(given[0]))
        given = ActivationOracle.from_pretrained(given[0], dtype) if oracle else _load_pair(given, dtype)
    if isinstance(given, NLA):
        return _pair(given, layer, name or given.base or "pair")
    if isinstance(given, ActivationOracle):
        return _oracle(given, layer, name or "oracle")
    if not callable(given):
        raise InputError(f"{given!r} tells no vectors; give an NLA, a released folder, an oracle or a function")
    return Verbalizer(str(name or getattr(given, "__name__", "function")), given, layer=layer)


def _load_pair(given: Sequence[Any], dtype: torch.dtype | None) -> NLA:
    return NLA.from_pretrained(given[0], given[1] if len(given) > 1 else None, dtype=dtype)


def _pair(nla: NLA, layer: int | None, name: str) -> Verbalizer:
    def again(acts: Tensor, seed: int) -> list[str]:
        generator = torch.Generator().manual_seed(seed)
        return nla.verbalize(acts, max_new_tokens=_CAP, temperature=1.0, generator=generator)

    def reconstruct(texts: list[str]) -> Tensor:
        # Other arms' words may hold the marker of the pair, which its reconstructor refuses.
        return nla.reconstruct([text.replace(nla.verbalizer.prompt.char, "") for text in texts])

    known = nla.layer if layer is None else layer
    mark = weights_mark(nla.verbalizer)
    return Verbalizer(name, lambda acts: nla.verbalize(acts, max_new_tokens=_CAP), again, reconstruct, known, mark)


def _oracle(oracle: ActivationOracle, layer: int | None, name: str) -> Verbalizer:
    if layer is None and len(oracle.layers) == 1 and len(oracle.layers[0]) == 1:
        layer = oracle.layers[0][0]
    question = None if oracle.protocol.question is not None else QUESTION

    def say(acts: Tensor) -> list[str]:
        return oracle.ask(acts, question, layer=layer)

    def again(acts: Tensor, seed: int) -> list[str]:
        asking = Asking(temperature=1.0, generator=torch.Generator().manual_seed(seed))
        return oracle.ask(acts, question, layer=layer, asking=asking)

    return Verbalizer(name, say, again, layer=layer, mark=weights_mark(oracle))


def weights_mark(module: Any) -> str:
    """A text that differs when weights do: of each parameter its name, its sum and that of its squares."""
    found = hashlib.sha256()
    for name, value in getattr(module, "named_parameters", dict[str, Tensor]().items)():
        own = value.detach().float()
        found.update(f"{name} {tuple(own.shape)} {float(own.sum()):.6g} {float(own.square().sum()):.6g};".encode())
    return found.hexdigest()[:16]
