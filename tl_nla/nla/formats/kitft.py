"""The official pairs (kitft): whole weights and a model sidecar in each folder; what tl-nla itself saves.

Layout: verbalizer ``config.json``, ``model*.safetensors``, tokenizer, ``nla_meta.yaml`` (schema 1 or 2); reconstructor
the same with K + 1 blocks and ``value_head.safetensors``. The marker's embedding is replaced by the vector at the
sidecar's scale; explanations stand between tags; the reconstructor's prompts have the tokenizer's special tokens.
"""

from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.formats.plan import PairPlan, Said, is_of_data
from tl_nla.nla.formats.protocol import OFFICIAL
from tl_nla.nla.formats.siblings import halves, needed

NAME = "kitft"


def plan(av: Listing, ar: Listing | None, said: Said) -> PairPlan | None:
    """A pair whose sidecars are those of models; ``None`` for any other."""
    av, ar = halves(av, ar)
    if is_of_data(av) or not (av.has("nla_meta.yaml") or av.has("config.json") or av.has("adapter_config.json")):
        return None
    ar = needed(av, ar)
    if av.has("adapter_config.json"):
        return PairPlan(NAME, OFFICIAL, None, (av,), ar, (av,), said.base)
    return PairPlan(NAME, OFFICIAL, av, (), ar, (av,), said.base)
