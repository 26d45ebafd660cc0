"""Oracle lenses: one adapter for many layers, whose number stands in the prompt; answers are bullets.

``meta.json`` (or ``lens_config.json``) says how the vector enters (``transform``, ``alpha``) and on which ``layers``.
It counts more than the sidecar, whose template has one layer written into it. The marker's embedding becomes ``alpha ·
h / ‖h‖``. Their reconstructors' heads are pickles with keys that are not known here, so that a lens is opened as an
oracle and rebuilds nothing.
"""

import re
from typing import Any

from tl_nla.errors import InputError
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.formats.oracle_plan import OraclePlan
from tl_nla.nla.formats.sidecar import FILE_NAME
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.oracle_prompt import LAYER, SLOTS, VECTORS, OracleProtocol

CONFIGS = ("meta.json", "lens_config.json")
_LAYER = re.compile(r"(?<=\blayer )\d+")
_KNOWN = ("raw", "unit")


def plan(listing: Listing) -> OraclePlan | None:
    """A lens; ``None`` for any other."""
    name = next((name for name in CONFIGS if listing.has(name)), None)
    told = listing.json(name) if name else {}
    if name is None or not listing.has("adapter_config.json") or not {"transform", "layers"} & set(told):
        return None
    where = f"{listing.title}/{name}"
    missing = [key for key in ("transform", "layers") if key not in told]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; without it a lens cannot be read")
    template, char = _prompt(listing, told, where)
    protocol = OracleProtocol(
        "oracle_lens", _injection(told, where), char, template.replace(char, SLOTS), VECTORS,
        tuple((layer,) for layer in _layers(told, where)), "", answers=AnswerRule("bullets"), cap=256,
    )  # fmt: skip
    return OraclePlan(protocol, listing)


def _injection(told: dict[str, Any], where: str) -> InjectionConfig:
    transform, alpha = told["transform"], told.get("alpha")
    if transform not in _KNOWN:
        raise InputError(
            f"{where}: transform is {transform!r}; known here are {', '.join(_KNOWN)} (the others need statistics "
            "whose use is not described)"
        )
    if transform == "raw":
        return InjectionConfig("raw")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or alpha <= 0:
        raise InputError(f"{where}: alpha is {alpha!r}; it must be the L2 norm of the injected vector, above 0")
    return InjectionConfig("constant", float(alpha))


def _layers(told: dict[str, Any], where: str) -> list[int]:
    layers = told["layers"]
    if not isinstance(layers, list) or not layers or not all(type(one) is int and one >= 0 for one in layers):
        raise InputError(f"{where}: layers are {layers!r}; they must be a list of whole numbers")
    return layers


def _prompt(listing: Listing, told: dict[str, Any], where: str) -> tuple[str, str]:
    """The template with ``{layer}``, and the marker."""
    sidecar = listing.yaml(FILE_NAME)
    sidecar = sidecar if isinstance(sidecar, dict) else {}
    tokens, templates = (sidecar.get(key) or {} for key in ("tokens", "prompt_templates"))
    extra = told.get("extra") if isinstance(told.get("extra"), dict) else {}
    template = (extra or {}).get("prompt") or templates.get("av") or templates.get("actor")
    char = tokens.get("injection_char")
    if not isinstance(template, str) or not isinstance(char, str):
        lost = "prompt (extra.prompt, or a template in nla_meta.yaml)" if not isinstance(template, str) else "marker"
        raise InputError(f"{where}: the {lost} is missing; without it a lens cannot be read")
    template = template.replace("{injection_char}", char)
    if LAYER not in template:
        template = _LAYER.sub(LAYER, template, count=1)
    if template.count(LAYER) != 1 or template.count(char) != 1:
        raise InputError(
            f"{where}: the prompt holds {template.count(LAYER)} layers and {template.count(char)} markers; one of each "
            "is needed"
        )
    return template, char
