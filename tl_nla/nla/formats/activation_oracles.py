"""Activation oracles (Karvonen et al.) and their multi-layer kin: LoRA adapters that answer questions about states.

``ao_config.json`` or ``mlao_config.json`` lies beside the adapter; ``config.json`` is a copy of the base's. The user
turn is ``Layer: L``, a row of ``" ?"``, and the question; several layers have one such block each. Vectors are added
behind block 1 at the norm of what stands there. Oracles trained before 26 October 2025 replace instead; their files do
not say so, and ``injection=InjectionConfig("norm_matched")`` reads them.
"""

import difflib
from typing import Any

from tl_nla.errors import InputError, unknown
from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.formats.oracle_plan import OraclePlan
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.oracle_prompt import OracleProtocol

ONE, SEVERAL = "ao_config.json", "mlao_config.json"
_KEYS = ("special_token", "hook_onto_layer", "steering_coefficient", "act_layer_combinations", "layer_combinations",
         "model_name", "generation_kwargs", "git_commit", "act_layers")  # fmt: skip


def plan(listing: Listing) -> OraclePlan | None:
    """An oracle of this family; ``None`` for any other."""
    name = next((name for name in (ONE, SEVERAL) if listing.has(name)), None)
    if name is None:
        return None
    if not listing.has("adapter_config.json"):
        raise InputError(f"{listing.title} has {name} and no adapter_config.json; the oracle's adapter is missing")
    told, where = listing.json(name), f"{listing.title}/{name}"
    _check_keys(told, where)
    block = _number(told, "hook_onto_layer", 1.0, where, whole=True)
    strength = _number(told, "steering_coefficient", 1.0, where)
    slot = told.get("special_token", " ?")
    if not isinstance(slot, str) or not slot:
        raise InputError(f"{where}: special_token is {slot!r}; it must be the text of a slot")
    combinations = _combinations(told, name, where)
    percent = () if combinations else _percent(told, where)
    if not combinations and not percent:
        raise InputError(f"{where} names no layers (act_layers, act_layer_combinations or layer_combinations)")
    settings = told.get("generation_kwargs") or {}
    cap = settings.get("max_new_tokens", 20) if isinstance(settings, dict) else 20
    protocol = OracleProtocol(
        "activation_oracle" if name == ONE else "multi_layer_oracle",
        InjectionConfig("additive", block=int(block), strength=strength), slot, layers=combinations,
        cap=cap if isinstance(cap, int) and cap > 0 else 20,
    )  # fmt: skip
    return OraclePlan(protocol, listing, percent)


def _check_keys(told: dict[str, Any], where: str) -> None:
    """Refuse keys that are nearly known; files hold settings of the training beside these."""
    for key in told:
        if key not in _KEYS and difflib.get_close_matches(key, _KEYS, 1, 0.8):
            raise unknown(f"key in {where}", key, _KEYS)
        if ("prefix" in key or "template" in key) and isinstance(told[key], str) and told[key].strip():
            raise InputError(f"{where}: {key} gives a prompt of its own; how it is filled in is not known here")


def _number(told: dict[str, Any], key: str, usual: float, where: str, whole: bool = False) -> float:
    value = told.get(key, int(usual) if whole else usual)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or value < 0:
        raise InputError(f"{where}: {key} is {value!r}; it must be a {'whole ' if whole else ''}number, 0 or above")
    return float(value)


def _combinations(told: dict[str, Any], name: str, where: str) -> tuple[tuple[int, ...], ...]:
    found = [told.get("act_layers")] if name == SEVERAL else told.get("act_layer_combinations")
    if not found or found == [None]:
        return ()
    rows = [row if isinstance(row, list) else [row] for row in found] if isinstance(found, list) else [[found]]
    if not all(type(layer) is int and layer >= 0 for row in rows for layer in row):
        raise InputError(f"{where}: layers are {found!r}; they must be whole numbers, 0 or above")
    if name == ONE and any(len(row) > 1 for row in rows):
        raise InputError(f"{where} combines several layers ({found!r}); how they are told in the prompt is missing")
    return tuple(tuple(row) for row in rows)


def _percent(told: dict[str, Any], where: str) -> tuple[int, ...]:
    found = told.get("layer_combinations") or []
    rows = [row if isinstance(row, list) else [row] for row in found] if isinstance(found, list) else [[found]]
    if not all(isinstance(share, int | float) and 0 <= share < 100 and len(row) == 1 for row in rows for share in row):
        raise InputError(f"{where}: layer_combinations are {found!r}; one number of percent each is known here")
    return tuple(int(row[0]) for row in rows)
