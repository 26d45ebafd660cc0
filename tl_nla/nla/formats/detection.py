"""Which family a released pair is of, and the pair itself."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.families import decoder_layers
from tl_nla.model.files import read_safetensors
from tl_nla.nla.formats import easynla, kitft, nanonla
from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.formats.parts import AR_LORA, AR_SETTINGS, load_reconstructor, load_verbalizer
from tl_nla.nla.formats.plan import PairPlan, Said, sidecar_of
from tl_nla.nla.formats.sidecar import FILE_NAME, Meta
from tl_nla.nla.formats.unreadable import is_oracle, refused
from tl_nla.nla.provenance import FILE as PROVENANCE
from tl_nla.nla.provenance import LAYER_CONVENTION, compared, record
from tl_nla.nla.reconstructor import Reconstructor
from tl_nla.nla.verbalizer import Verbalizer

FAMILIES = (nanonla, easynla, kitft)
MEAN_FILE = "training_mean.safetensors"


@dataclass(frozen=True)
class OpenedPair:
    """A loaded pair with what is known of it.

    Attributes:
        verbalizer: in evaluation mode.
        reconstructor: in evaluation mode.
        layer: K.
        base: name of the model that it was made from.
        mean: mean of the normalised training states; released pairs have none.
        provenance: family, folders and conventions, for reports.
    """

    verbalizer: Verbalizer
    reconstructor: Reconstructor
    layer: int
    base: str
    mean: Tensor | None
    provenance: dict[str, Any]


def plan_pair(av: str | Path, ar: str | Path | None = None, said: Said | None = None) -> PairPlan:
    """Find out of which family a pair is and where its parts lie; no weight is read.

    Args:
        av: verbalizer folder or hub id, or one that holds both parts.
        ar: reconstructor folder or hub id; found beside the verbalizer when ``None``.
        said: what the user said beside.

    Raises:
        InputError: when it is of no known family; the message says what is missing.
    """
    said = said or Said()
    first, second = Listing.of(av), None if ar is None else Listing.of(ar)
    if is_oracle(first):
        raise refused(first)
    for family in FAMILIES:
        found = family.plan(first, second, said)
        if found is not None:
            return found
    raise refused(first)


def open_pair(av: str | Path, ar: str | Path | None = None, said: Said | None = None) -> OpenedPair:
    """Load a pair of any family; nothing is given back unless all of it fits.

    Args:
        av: as of :func:`plan_pair`.
        ar: as of :func:`plan_pair`.
        said: as of :func:`plan_pair`.

    Raises:
        InputError: when a file is missing or damaged, or a check fails.
    """
    said = said or Said()
    plan = plan_pair(av, ar, said)
    meta = plan.sidecar()
    protocol = plan.protocol if meta.protocol is None else meta.protocol
    if said.thinking is not None:
        protocol = replace(protocol, style=replace(protocol.style, thinking=said.thinking))
    ar_meta = _reconstructor_meta(plan, meta)
    layers = {one.layer for one in (meta, ar_meta) if one.layer is not None}
    if len(layers) > 1:
        raise InputError(f"the verbalizer is of layer {meta.layer}, the reconstructor of layer {ar_meta.layer}")
    reconstructor = load_reconstructor(plan, ar_meta, meta, protocol, said.dtype)
    blocks = len(decoder_layers(reconstructor.backbone))
    deeper = protocol.ar_rescaled and bool(layers)  # Gemma 4 needs a full-attention block at its end
    if layers and not deeper and layers != {blocks - 1}:
        raise InputError(f"the sidecars say layer {layers.pop()}, the reconstructor has {blocks} blocks (K + 1)")
    layer = layers.pop() if deeper else blocks - 1
    verbalizer = load_verbalizer(plan, meta, protocol, said)
    mean = read_safetensors(plan.ar.fetch() / MEAN_FILE)["mean"] if plan.ar.has(MEAN_FILE) else None
    base = meta.base_checkpoint
    told = _provenance(plan, layer, base)
    told |= compared(plan.shared[0].json(PROVENANCE), record(verbalizer.model, layer, base), plan.shared[0].title)
    return OpenedPair(verbalizer.eval(), reconstructor.eval(), layer, base, mean, told)


def _reconstructor_meta(plan: PairPlan, meta: Meta) -> Meta:
    """The sidecar; adapters of the reimplementations have ``ar_meta.json`` instead and share the verbalizer's."""
    shared = meta.of_data or plan.ar.has(AR_SETTINGS) or plan.ar.has(AR_LORA)
    if not plan.ar.has(FILE_NAME) and shared:
        return Meta(role="ar", d_model=meta.d_model, layer=meta.layer, base_checkpoint=meta.base_checkpoint)
    return sidecar_of([plan.ar], "ar")


def _provenance(plan: PairPlan, layer: int, base: str) -> dict[str, Any]:
    return {
        "family": plan.family,
        "verbalizer": [*([plan.av.title] if plan.av else []), *(one.title for one in plan.adapters)],
        "reconstructor": plan.ar.title, "base": str(plan.base or base),
        "layer": layer, "layer_convention": LAYER_CONVENTION,
    }  # fmt: skip
