"""Where the parts of a released pair lie and how they are read: what a family's module finds out before loading."""

from dataclasses import dataclass
from pathlib import Path

import torch

from tl_nla.errors import InputError
from tl_nla.model.loading import TOKENIZERS
from tl_nla.model.lora import SETTINGS, adapter_base
from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.formats.protocol import Protocol
from tl_nla.nla.formats.sidecar import FILE_NAME, Meta, Role, read_meta
from tl_nla.nla.injection import InjectionConfig
from tl_nla.paths import user_path


@dataclass(frozen=True)
class Said:
    """What the user said about a pair beside its name.

    Attributes:
        base: model below the adapters, a folder or a hub id; where the adapters say when ``None``.
        choice: which of several checkpoints in one repository, by name or number.
        thinking: what the chat template is told; what the family was trained with when ``None``.
        injection: how vectors enter; as the family does when ``None``.
        dtype: of the transformers' weights, as stored when ``None``.
    """

    base: str | Path | None = None
    choice: str | None = None
    thinking: bool | None = None
    injection: InjectionConfig | None = None
    dtype: torch.dtype | None = torch.float32


@dataclass(frozen=True)
class PairPlan:
    """A pair as a family's module found it.

    Attributes:
        family: its name.
        protocol: how it is read.
        av: folder of the verbalizer's whole weights; ``None`` where adapters stand on a base elsewhere.
        adapters: of the verbalizer, in the order in which they were trained on each other; all are active.
        ar: folder of the reconstructor.
        shared: folders with the tokenizer and the sidecar, the first that has one counts.
        base: model below the adapters where they do not say it themselves.
    """

    family: str
    protocol: Protocol
    av: Listing | None
    adapters: tuple[Listing, ...]
    ar: Listing
    shared: tuple[Listing, ...]
    base: str | Path | None = None

    def base_folder(self) -> str | Path:
        """The model below the verbalizer's adapters.

        Raises:
            InputError: when nothing names it.
        """
        if self.base is not None:
            return self.base
        if not self.adapters:
            raise InputError(f"nothing in {self.ar.title} names the base model; give its folder or hub id as base=")
        folder = self.adapters[0].fetch()
        named = adapter_base(folder)
        if Path(str(named)).is_absolute() and not Path(str(named)).exists():  # where it was trained
            raise InputError(
                f"{folder / SETTINGS} names the base {str(named)!r}, which is no folder here; give its folder or hub "
                "id as base="
            )
        return named

    def raw_base(self, meta: Meta) -> str | Path:
        """The untrained model below a reconstructor's adapter.

        The sidecar names it. A verbalizer's adapter names it too, unless it stands on another verbalizer. Its name is
        taken where that is a folder here and the sidecar's is none.

        Raises:
            InputError: when nothing names it.
        """
        if self.base is not None or not self.adapters:
            return self.base or meta.base_checkpoint or self.base_folder()
        told = meta.base_checkpoint
        if told and user_path(told).is_dir():
            return told
        below = Path(str(self.base_folder()))
        raw = below.is_dir() and not (below / FILE_NAME).is_file() and not (below / SETTINGS).is_file()
        return below if raw or not told else told

    def tokenizer_folder(self) -> Path:
        """The folder of the verbalizer's tokenizer.

        Raises:
            InputError: when there is none.
        """
        for listing in self.shared:
            if any(listing.has(name) for name in TOKENIZERS):
                return listing.fetch()
        if self.adapters:
            base = Listing.of(self.base_folder())
            if any(base.has(name) for name in TOKENIZERS):
                return base.fetch()
        places = ", ".join(listing.title for listing in self.shared)
        raise InputError(f"no usable tokenizer in {places}; one of {', '.join(TOKENIZERS)} is needed")

    def sidecar(self) -> Meta:
        """What the verbalizer's sidecar says.

        Raises:
            InputError: when there is none, or it cannot be used.
        """
        listings = list(self.shared)
        if self.adapters and not any(listing.has(FILE_NAME) for listing in listings):
            listings.append(Listing.of(self.base_folder()))
        return sidecar_of(listings, "av")


def sidecar_of(listings: list[Listing], role: Role) -> Meta:
    """The sidecar of the first folder that has one.

    Raises:
        InputError: when none has, or it cannot be used.
    """
    for listing in listings:
        if listing.has(FILE_NAME):
            return read_meta(listing.fetch(), role)
    places = ", ".join(dict.fromkeys(listing.title for listing in listings))
    raise InputError(f"no {FILE_NAME} in {places}; a released NLA has one beside its weights, with prompt and marker")


def is_of_data(listing: Listing) -> bool:
    """Whether a folder's sidecar is that of training data."""
    found = listing.yaml(FILE_NAME)
    return isinstance(found, dict) and found.get("kind") == "nla_dataset"
