"""The released checkpoint format's sidecar, ``nla_meta.yaml``: read with every check, written in schema 2.

Readers accept both schemas and both vocabularies (``av``/``ar`` and the older ``actor``/``critic``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tl_nla.errors import InputError, unknown

FILE_NAME = "nla_meta.yaml"
SCHEMAS = (1, 2)
Role = Literal["av", "ar"]
_ROLES: dict[str, Role] = {"av": "av", "actor": "av", "ar": "ar", "critic": "ar"}
_KEYS = (
    "kind schema_version role stage base_checkpoint d_model extraction tokens prompt_templates trained_on "
    "parent_checkpoints created_at created_by critic actor av ar training extraction_layer_index injection dataset_id "
    "release license notes git_commit"
).split()
_EXTRACTION_KEYS = ("injection_scale", "mse_scale", "layer_index", "norm", "base_model", "d_model", "corpus")
_TOKEN_KEYS = (
    "injection_char", "injection_token_id", "injection_left_neighbor_id", "injection_right_neighbor_id",
    "critic_suffix_ids", "ar_suffix_ids",
)  # fmt: skip


@dataclass(frozen=True)
class Meta:
    """What a sidecar says.

    Attributes:
        role: verbalizer (``av``) or reconstructor (``ar``).
        d_model: size of the vectors.
        layer: K, the block whose output is explained, or ``None`` when the sidecar does not say.
        av_template: verbalizer prompt with ``{injection_char}``, if given.
        ar_template: reconstructor prompt with ``{explanation}``, if given.
        injection_char: the marker, if given.
        injection_token_id: its id, if given.
        neighbours: ids left and right of it in the prompt, if given.
        suffix_ids: ids every reconstructor prompt ends with, if given.
        injection_scale: L2 norm of injected vectors; ``None`` injects them as they are.
        mse_scale: L2 norm at which vectors are compared; sqrt(d_model) when the sidecar does not say.
        injection: our own extension, the injection strategy and its slots.
        base_checkpoint: name of the model it was made from.
        schema: the schema it was read in.
    """

    role: Role
    d_model: int
    layer: int | None = None
    av_template: str | None = None
    ar_template: str | None = None
    injection_char: str | None = None
    injection_token_id: int | None = None
    neighbours: tuple[int, int] | None = None
    suffix_ids: tuple[int, ...] | None = None
    injection_scale: float | None = None
    mse_scale: float | None = None
    injection: Mapping[str, Any] = field(default_factory=dict)
    base_checkpoint: str = ""
    schema: int = 2


def read_meta(folder: str | Path) -> Meta:
    """Read and check the sidecar of a checkpoint folder.

    Raises:
        InputError: when it is missing, no YAML mapping, of an unknown kind, schema or role, has an unknown key, or
            lacks what its role needs.
    """
    path = Path(folder) / FILE_NAME
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no {FILE_NAME} in {folder}; a released NLA folder has one beside its weights") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}; it must be a mapping of keys to values")
    return parse_meta(found, str(path))


def parse_meta(found: Mapping[str, Any], where: str = FILE_NAME) -> Meta:
    """Check a sidecar's content; see :func:`read_meta`."""
    _known(found, _KEYS, f"key in {where}")
    extraction, tokens = _mapping(found, "extraction", where), _mapping(found, "tokens", where)
    _known(extraction, _EXTRACTION_KEYS, f"key under extraction in {where}")
    _known(tokens, _TOKEN_KEYS, f"key under tokens in {where}")
    if found.get("kind", "nla_model") != "nla_model":
        raise InputError(f"{where} is of kind {found['kind']!r}; a checkpoint has kind 'nla_model'")
    schema = found.get("schema_version", 1)
    if schema not in SCHEMAS:
        raise InputError(f"{where} has schema_version {schema!r}; readable are {SCHEMAS}")
    role = _ROLES.get(str(found.get("role")))
    if role is None:
        raise unknown(f"role in {where}", found.get("role"), _ROLES)
    templates = _mapping(found, "prompt_templates", where)
    _known(templates, _ROLES, f"key under prompt_templates in {where}")
    left, right = tokens.get("injection_left_neighbor_id"), tokens.get("injection_right_neighbor_id")
    suffix = tokens.get("critic_suffix_ids", tokens.get("ar_suffix_ids"))
    return Meta(
        role=role, d_model=_whole(found, "d_model", where), layer=_layer(found, extraction, schema),
        av_template=templates.get("av", templates.get("actor")), ar_template=templates.get("ar", templates.get("critic")),
        injection_char=tokens.get("injection_char"), injection_token_id=tokens.get("injection_token_id"),
        neighbours=None if left is None or right is None else (int(left), int(right)),
        suffix_ids=None if suffix is None else tuple(suffix),
        injection_scale=_scale(extraction.get("injection_scale"), _whole(found, "d_model", where), where),
        mse_scale=_scale(extraction.get("mse_scale"), _whole(found, "d_model", where), where),
        injection=_mapping(found, "injection", where), base_checkpoint=str(found.get("base_checkpoint") or ""),
        schema=int(schema),
    )  # fmt: skip


def meta_to_yaml(meta: Meta) -> str:
    """The sidecar in schema 2, both template keys of the newer vocabulary."""
    left, right = meta.neighbours or (None, None)
    content = {
        "kind": "nla_model", "schema_version": 2, "role": meta.role, "base_checkpoint": meta.base_checkpoint,
        "d_model": meta.d_model, "extraction_layer_index": meta.layer,
        "extraction": {"injection_scale": meta.injection_scale, "mse_scale": meta.mse_scale},
        "tokens": {
            "injection_char": meta.injection_char, "injection_token_id": meta.injection_token_id,
            "injection_left_neighbor_id": left, "injection_right_neighbor_id": right,
            "critic_suffix_ids": None if meta.suffix_ids is None else list(meta.suffix_ids),
        },
        "prompt_templates": {"av": meta.av_template, "ar": meta.ar_template},
        "created_by": "tl-nla",
    }  # fmt: skip
    if meta.injection:
        content["injection"] = dict(meta.injection)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _known(found: Mapping[str, Any], allowed: Any, kind: str) -> None:
    for key in found:
        if key not in allowed:
            raise unknown(kind, key, list(allowed))


def _mapping(found: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = found.get(key)
    if value is None or value in ("actor", "critic"):
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{where}: {key} is a {type(value).__name__}; it must be a mapping")
    return value


def _whole(found: Mapping[str, Any], key: str, where: str) -> int:
    value = found.get(key)
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{where}: {key} is {value!r}; it must be a positive whole number")
    return value


def _layer(found: Mapping[str, Any], extraction: Mapping[str, Any], schema: int) -> int | None:
    """K; in schema 1 the reconstructor may give its number of blocks (K + 1) instead."""
    for part in (found, found.get("critic"), found.get("ar"), extraction):
        if isinstance(part, Mapping):
            for key in ("extraction_layer_index", "layer_index"):
                if part.get(key) is not None:
                    return int(part[key])
            if schema == 1 and part.get("num_hidden_layers") is not None:
                return int(part["num_hidden_layers"]) - 1
    return None


def _scale(value: Any, d_model: int, where: str) -> float | None:
    """A resolved scale: ``None`` for no normalisation, sqrt(d_model) for the sentinel, or a number."""
    if value is None or value in ("raw", "none"):
        return None
    if value == "sqrt_d_model":
        return float(d_model) ** 0.5
    if isinstance(value, int | float) and value > 0:
        return float(value)
    raise InputError(f"{where}: scale {value!r} is neither a positive number, 'sqrt_d_model', 'raw' nor null")
