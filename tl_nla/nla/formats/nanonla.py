"""nanoNLA: read as EasyNLA, with its own repositories.

``…-av`` and ``…-ar`` hold whole weights with the sidecar of the training data. ``…-rl-lora`` holds one adapter a length
penalty (``p0.0`` to ``p0.03``), which stands on ``…-av`` and not on the model that its settings may name.
"""

import re

from tl_nla.errors import InputError
from tl_nla.nla.formats.listing import Listing, pick
from tl_nla.nla.formats.plan import PairPlan, Said, is_of_data
from tl_nla.nla.formats.protocol import ADDITIVE
from tl_nla.nla.formats.siblings import halves, needed, renamed

NAME = "nanonla"
_PENALTY = re.compile(r"p\d+\.\d+")


def plan(av: Listing, ar: Listing | None, said: Said) -> PairPlan | None:
    """A pair of this family; ``None`` for any other."""
    penalties = [name for name in av.folders if _PENALTY.fullmatch(name)]
    if penalties:
        return _on_verbalizer(av, ar, said, penalties)
    if "nanonla" not in av.name.lower():
        return None
    if "multi" in av.name.lower():
        raise InputError(
            f"{av.title}: several slots with an affine map each, and where those maps are stored is not known here. "
            "What is missing is the name and shape of their tensors"
        )
    av, ar = halves(av, ar)
    if not is_of_data(av) or av.has("adapter_config.json"):
        return None
    return PairPlan(NAME, ADDITIVE, av, (), needed(av, ar), (av,), said.base)


def _on_verbalizer(root: Listing, ar: Listing | None, said: Said, penalties: list[str]) -> PairPlan:
    if said.choice is None and len(penalties) > 1:
        raise InputError(f"{root.title} has an adapter a length penalty; give choice= one of {', '.join(penalties)}")
    adapter = root.at(pick(root, penalties, said.choice))
    beside = renamed(root, "-rl-lora", "-av") if said.base is None else Listing.of(said.base)
    if beside is None:
        raise InputError(
            f"the adapters in {root.title} stand on a trained verbalizer (…-av), not on the model that they name; "
            "give its folder or hub id as base="
        )
    critic = needed(root, ar or renamed(root, "-rl-lora", "-ar"))
    return PairPlan(NAME, ADDITIVE, beside, (adapter,), critic, (adapter, root, beside), said.base)
