"""Where a released oracle lies and how it is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tl_nla.errors import InputError
from tl_nla.model.families import decoder_layers
from tl_nla.model.loading import TOKENIZERS, load_causal_lm, load_tokenizer
from tl_nla.model.lora import SETTINGS, adapter_base, put_adapter
from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.oracle_prompt import OracleProtocol


@dataclass(frozen=True)
class OracleSaid:
    """What the user said about an oracle beside its name.

    Attributes:
        base: model below the adapter, a folder or a hub id; where the adapter says when ``None``.
        injection: how vectors enter; as the family does when ``None``.
        protocol: how it is asked; as the family is when ``None``.
        dtype: of the weights, as stored when ``None``.
    """

    base: str | Path | None = None
    injection: InjectionConfig | None = None
    protocol: OracleProtocol | None = None
    dtype: torch.dtype | None = torch.float32


@dataclass(frozen=True)
class OraclePlan:
    """An oracle as a family's module found it.

    Attributes:
        protocol: how it is asked; ``None`` until the number of blocks is known.
        weights: folder of whole weights, or of the adapter.
        percent: layers as hundredths of the depth where the folder tells them so.
    """

    protocol: OracleProtocol
    weights: Listing
    percent: tuple[int, ...] = ()

    @property
    def adapted(self) -> bool:
        """Whether it is an adapter; released oracles have a copy of the base's ``config.json`` beside it."""
        return self.weights.has(SETTINGS)

    def load(self, said: OracleSaid) -> tuple[Any, Any, str]:
        """Model (wrapped by its adapter), tokenizer, and name of the base.

        Raises:
            InputError: when a file is missing or damaged, or the adapter does not fit.
        """
        folder = self.weights.fetch()
        base = said.base or (adapter_base(folder) if self.adapted else folder)
        if Path(str(base)).is_absolute() and not Path(str(base)).exists():
            raise InputError(f"{folder / SETTINGS} names the base {str(base)!r}, which is no folder here; give base=")
        own = any(self.weights.has(name) for name in TOKENIZERS)
        tokenizer = load_tokenizer(folder if own else Listing.of(base).fetch())
        model = load_causal_lm(base, said.dtype)
        return put_adapter(model, folder) if self.adapted else model, tokenizer, str(base)

    def layers_of(self, model: Any) -> tuple[tuple[int, ...], ...]:
        """Combinations of layers, from the depth of the model where they are told in percent."""
        depth = len(decoder_layers(model))
        told = self.protocol.layers or tuple((int(depth * share / 100),) for share in self.percent)
        wrong = sorted({layer for layers in told for layer in layers if not 0 <= layer < depth})
        if wrong:
            raise InputError(
                f"{self.weights.title} was trained on layer {wrong[0]}, its base has layers 0 to {depth - 1}; an "
                "oracle for another base"
            )
        return told
