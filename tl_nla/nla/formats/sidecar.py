"""The released sidecar, ``nla_meta.yaml``: read with every check, written in schema 2.

Readers accept both schemas and both vocabularies (``av``/``ar`` and the older ``actor``/``critic``; where both
stand, the newer wins). Besides the sidecars of checkpoints, those of training data are read: EasyNLA and nanoNLA copy
one into each checkpoint folder.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tl_nla.errors import InputError, unknown
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.formats.protocol import Protocol
from tl_nla.nla.prompts import PromptStyle
from tl_nla.paths import user_path

FILE_NAME = "nla_meta.yaml"
SCHEMAS = (1, 2)
Role = Literal["av", "ar"]
_ROLES: dict[str, Role] = {"av": "av", "actor": "av", "ar": "ar", "critic": "ar"}
_KEYS = (
    "kind", "schema_version", "role", "stage", "base_checkpoint", "d_model", "extraction", "tokens",
    "prompt_templates", "trained_on", "parent_checkpoints", "created_at", "created_by", "git_commit", "critic", "actor",
    "av", "ar", "training", "extraction_layer_index", "injection", "reading",
)  # fmt: skip
_DATA_KEYS = (
    "kind", "schema_version", "dataset_id", "stage", "row_count", "keep_debug_metadata", "extraction", "tokens",
    "prompt_templates", "api_summaries", "parent_datasets", "created_at", "created_by", "git_commit",
)  # fmt: skip
_DATA_EXTRACTION_KEYS = (
    "base_model", "d_model", "layer_index", "norm", "corpus", "corpus_slice", "positions_per_doc",
)  # fmt: skip
_PART_KEYS = ("extraction_layer_index", "layer_index", "num_hidden_layers")
_EXTRACTION_KEYS = ("injection_scale", "mse_scale", "extraction_layer_index", "layer_index", "norm")
_TOKEN_KEYS = (
    "injection_char", "injection_token_id", "injection_left_neighbor_id", "injection_right_neighbor_id",
    "critic_suffix_ids", "ar_suffix_ids",
)  # fmt: skip
_INJECTION_KEYS = ("kind", "slots", "block", "strength")
_READING_KEYS = ("chat", "thinking", "prefill", "answer", "lines", "ar_special_tokens", "ar_rescaled")
_OURS = "tl-nla"


@dataclass(frozen=True)
class Meta:
    """What a sidecar says; ``None`` where it does not say.

    Attributes:
        role: verbalizer (``av``) or reconstructor (``ar``).
        d_model: size of the vectors.
        layer: K, the block whose output is explained.
        blocks: schema 1's count of the reconstructor's blocks; files exist that mean K by it and that mean K + 1.
        av_template: verbalizer prompt with ``{injection_char}``.
        ar_template: reconstructor prompt with ``{explanation}``.
        injection_char: the marker.
        injection_token_id: its id.
        neighbours: ids left and right of it in the prompt.
        suffix_ids: ids every reconstructor prompt ends with.
        injection_scale: L2 norm of injected vectors, or ``"raw"`` for vectors as they are.
        null_scale: the scale is null in a file that others wrote: vectors as they are, or a scale that got lost.
        mse_scale: L2 norm at which vectors are compared; sqrt(d_model) where the file does not say.
        injection: our own extension, the injection's kind and slots; empty for embedding replacement in one slot.
        protocol: our own extension, how prompts and answers look where not as the official ones do; ``None`` where the
            file does not say.
        base_checkpoint: name of the model it was made from.
        schema: the schema it was read in.
        of_data: it describes training data; nothing is said of the injection.
    """

    role: Role
    d_model: int
    layer: int | None = None
    blocks: int | None = None
    av_template: str | None = None
    ar_template: str | None = None
    injection_char: str | None = None
    injection_token_id: int | None = None
    neighbours: tuple[int, int] | None = None
    suffix_ids: tuple[int, ...] | None = None
    injection_scale: float | str | None = None
    null_scale: bool = False
    mse_scale: float | None = None
    injection: Mapping[str, Any] = field(default_factory=dict)
    protocol: Protocol | None = None
    base_checkpoint: str = ""
    schema: int = 2
    of_data: bool = False


def read_meta(folder: str | Path, role: Role) -> Meta:
    """Read and check the sidecar of a checkpoint folder.

    Args:
        folder: with ``nla_meta.yaml``.
        role: the part that is expected there; a file without a role is taken to be it.

    Raises:
        InputError: when it is missing, no YAML mapping, of an unknown kind, schema or role, of the other part, has an
            unknown key, or a value of the wrong type.
    """
    path = user_path(folder) / FILE_NAME
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no {FILE_NAME} in {folder}; a released NLA folder has one beside its weights") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # YAML's dates and numbers raise bare ValueErrors
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    meta = parse_meta(found, role, str(path))
    if meta.role != role:
        raise InputError(f"{folder} holds the {meta.role!r} part; the {role!r} part belongs here (swapped folders?)")
    return meta


def parse_meta(found: Any, role: Role, where: str = FILE_NAME) -> Meta:
    """Check a sidecar's content; see :func:`read_meta`."""
    if not isinstance(found, dict):
        raise InputError(f"{where} holds a {type(found).__name__}; it must be a mapping of keys to values")
    if found.get("kind") == "nla_dataset":
        return _parse_data(found, role, where)
    _known(found, _KEYS, f"key in {where}")
    if found.get("kind", "nla_model") != "nla_model":
        raise InputError(f"{where} is of kind {found['kind']!r}; allowed: 'nla_model' and 'nla_dataset'")
    schema = found.get("schema_version", 1)
    if isinstance(schema, bool) or schema not in SCHEMAS:
        raise InputError(f"{where} has schema_version {schema!r}; readable are {SCHEMAS}")
    role_name = found.get("role") or role
    if not isinstance(role_name, str) or role_name not in _ROLES:
        raise unknown(f"role in {where}", role_name, _ROLES)
    extraction = _part(found, "extraction", _EXTRACTION_KEYS, where)
    tokens = _part(found, "tokens", _TOKEN_KEYS, where)
    templates = _part(found, "prompt_templates", _ROLES, where)
    parts = [_part(found, name, _PART_KEYS, where) for name in _ROLES]
    d_model = _d_model(found, where)
    scale = _scale(extraction, "injection_scale", d_model, where)
    mse_scale = _scale(extraction, "mse_scale", d_model, where)
    return Meta(
        role=_ROLES[role_name], d_model=d_model, schema=int(schema),
        layer=_layer([found, extraction, *parts], where),
        blocks=_first(_whole(part, "num_hidden_layers", where) for part in parts),
        av_template=_template(templates, ("av", "actor"), "{injection_char}", where),
        ar_template=_template(templates, ("ar", "critic"), "{explanation}", where),
        injection_char=_text(tokens, "injection_char", where),
        injection_token_id=_whole(tokens, "injection_token_id", where), neighbours=_neighbours(tokens, where),
        suffix_ids=_first(_ids(tokens, key, where) for key in ("ar_suffix_ids", "critic_suffix_ids")),
        injection_scale=scale, null_scale=_null_scale(found, extraction),
        mse_scale=mse_scale if isinstance(mse_scale, float) else float(d_model) ** 0.5,
        injection=_part(found, "injection", _INJECTION_KEYS, where),
        protocol=_protocol(_part(found, "reading", _READING_KEYS, where), where),
        base_checkpoint=str(found.get("base_checkpoint") or ""),
    )  # fmt: skip


def _parse_data(found: Mapping[str, Any], role: Role, where: str) -> Meta:
    """The sidecar of training data: width and layer are those of the extraction, and there is no scale."""
    _known(found, _DATA_KEYS, f"key in {where}")
    extraction = _part(found, "extraction", _DATA_EXTRACTION_KEYS, where)
    tokens = _part(found, "tokens", _TOKEN_KEYS, where)
    templates = _part(found, "prompt_templates", _ROLES, where)
    schema = found.get("schema_version", 1)
    if isinstance(schema, bool) or schema not in SCHEMAS:
        raise InputError(f"{where} has schema_version {schema!r}; readable are {SCHEMAS}")
    if extraction.get("norm") not in (None, "none"):
        raise InputError(f"{where}: norm is {extraction['norm']!r}; only vectors as they are ('none') are known")
    d_model = _d_model(extraction, where)
    return Meta(
        role=role, d_model=d_model, schema=int(schema), layer=_layer([extraction], where),
        av_template=_template(templates, ("av", "actor"), "{injection_char}", where),
        ar_template=_template(templates, ("ar", "critic"), "{explanation}", where),
        injection_char=_text(tokens, "injection_char", where),
        injection_token_id=_whole(tokens, "injection_token_id", where), neighbours=_neighbours(tokens, where),
        suffix_ids=_first(_ids(tokens, key, where) for key in ("ar_suffix_ids", "critic_suffix_ids")),
        mse_scale=float(d_model) ** 0.5, base_checkpoint=str(extraction.get("base_model") or ""), of_data=True,
    )  # fmt: skip


def meta_to_yaml(meta: Meta) -> str:
    """The sidecar in schema 2, in the newer vocabulary."""
    left, right = meta.neighbours or (None, None)
    templates = {"av": meta.av_template, "ar": meta.ar_template}
    scales: dict[str, Any] = {"mse_scale": meta.mse_scale}
    if meta.injection_scale is not None:  # null may say raw, or nothing
        scales["injection_scale"] = meta.injection_scale
    content = {
        "kind": "nla_model", "schema_version": 2, "role": meta.role, "base_checkpoint": meta.base_checkpoint,
        "d_model": meta.d_model, "extraction_layer_index": meta.layer,
        "extraction": scales,
        "tokens": {
            "injection_char": meta.injection_char, "injection_token_id": meta.injection_token_id,
            "injection_left_neighbor_id": left, "injection_right_neighbor_id": right,
            "critic_suffix_ids": None if meta.suffix_ids is None else list(meta.suffix_ids),
        },
        "prompt_templates": {name: text for name, text in templates.items() if text is not None},
        "critic": {"extraction_layer_index": meta.layer},
        "created_by": _OURS,
    }  # fmt: skip
    if meta.injection:
        content["injection"] = dict(meta.injection)
    if meta.protocol not in (None, Protocol()):
        content["reading"] = _reading(meta.protocol)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _reading(protocol: Protocol | None) -> dict[str, Any]:
    told = protocol or Protocol()
    return {
        "chat": told.style.chat, "thinking": told.style.thinking, "prefill": told.style.prefill,
        "answer": told.answers.form, "lines": told.answers.lines, "ar_special_tokens": told.ar_special,
        "ar_rescaled": told.ar_rescaled,
    }  # fmt: skip


def _protocol(found: Mapping[str, Any], where: str) -> Protocol | None:
    if not found:
        return None
    for key, kinds in (("chat", bool), ("thinking", bool | None), ("prefill", str), ("lines", int | None),
                       ("answer", str), ("ar_special_tokens", bool), ("ar_rescaled", bool)):  # fmt: skip
        if key in found and not isinstance(found[key], kinds):
            raise InputError(f"{where}: {key} under reading is {found[key]!r}, a {type(found[key]).__name__}")
    style = PromptStyle(found.get("chat", True), found.get("thinking"), found.get("prefill", ""))
    answers = AnswerRule(found.get("answer", "tags"), found.get("lines"))
    return Protocol(style, answers, None, found.get("ar_special_tokens", True), found.get("ar_rescaled", False))


def _d_model(found: Mapping[str, Any], where: str) -> int:
    d_model = _whole(found, "d_model", where)
    if not d_model:
        raise InputError(f"{where} has d_model {d_model!r}; it must be the size of the vectors")
    return d_model


def _neighbours(tokens: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    left = _whole(tokens, "injection_left_neighbor_id", where)
    right = _whole(tokens, "injection_right_neighbor_id", where)
    return None if left is None or right is None else (left, right)


def _known(found: Mapping[str, Any], allowed: Iterable[str], kind: str) -> None:
    for key in found:
        if key not in allowed:
            raise unknown(kind, key, allowed)


def _part(found: Mapping[str, Any], key: str, allowed: Iterable[str], where: str) -> dict[str, Any]:
    value = found.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{where}: {key} is a {type(value).__name__}; it must be a mapping")
    _known(value, allowed, f"key under {key} in {where}")
    return value


def _whole(found: Mapping[str, Any], key: str, where: str) -> int | None:
    value = found.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise InputError(f"{where}: {key} is {value!r}; it must be a whole number, 0 or above")
    return value


def _text(found: Mapping[str, Any], key: str, where: str) -> str | None:
    value = found.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise InputError(f"{where}: {key} is {value!r}; it must be a text")
    return value


def _template(found: Mapping[str, Any], keys: Iterable[str], place: str, where: str) -> str | None:
    template = _first(_text(found, key, where) for key in keys)
    if template is not None and template.count(place) != 1:
        raise InputError(f"{where}: a prompt template holds {place} {template.count(place)} times; once is right")
    return template


def _ids(found: Mapping[str, Any], key: str, where: str) -> tuple[int, ...] | None:
    value = found.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(token) is int and token >= 0 for token in value):
        raise InputError(f"{where}: {key} is {value!r}; it must be a list of token ids")
    return tuple(value)


def _layer(parts: Iterable[Mapping[str, Any]], where: str) -> int | None:
    keys = ("extraction_layer_index", "layer_index")
    layers = {_whole(part, key, where) for part in parts for key in keys} - {None}
    if len(layers) > 1:
        raise InputError(f"{where} names several layers {sorted(map(str, layers))}; they must agree")
    return layers.pop() if layers else None


def _scale(found: Mapping[str, Any], key: str, d_model: int, where: str) -> float | str | None:
    """A scale: ``None`` when the key is absent, ``"raw"`` for no normalisation, else the L2 norm."""
    if key not in found:
        return None
    value = found[key]
    if value in (None, "raw", "none"):
        return "raw"
    if value == "sqrt_d_model":
        return float(d_model) ** 0.5
    try:  # YAML reads 8e4 as a text
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise InputError(f"{where}: {key} is {value!r}; allowed: a number above 0, 'sqrt_d_model', 'raw' or null")
    return number


def _null_scale(found: Mapping[str, Any], extraction: Mapping[str, Any]) -> bool:
    """Whether the scale is null without our having written it so, which earlier versions did for raw vectors."""
    null = "injection_scale" in extraction and extraction["injection_scale"] is None
    return null and found.get("created_by") != _OURS


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)
