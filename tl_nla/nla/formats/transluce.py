"""Transluce's explainers: whole models and adapters whose question says where the vector stands.

They are told by their names alone (``features_explain``, ``act_patch``). The embedding of a reserved token between two
others becomes the vector as it is. It was trained on columns of sparse autoencoders with norms of 1.4 to 1.9, so that
states have to be rescaled. The wording of the training questions is not known here, so that the user gives it.
"""

from tl_nla.errors import InputError
from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.formats.oracle_plan import OraclePlan
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.oracle_prompt import QUESTION, SLOTS, OracleProtocol

_FRAMES = {
    "llama": ("<|reserved_special_token_10|>", "<|reserved_special_token_12|>", "<|reserved_special_token_11|>"),
    "qwen": ("<|vision_start|>", "<|vision_pad|>", "<|vision_end|>"),
}


def plan(listing: Listing) -> OraclePlan | None:
    """An explainer of Transluce's; ``None`` for any other."""
    name = listing.title.lower()
    if "input_ablation" in name:
        raise InputError(f"{listing.title}: input_ablation explainers read no vector; there is nothing to ask")
    if "features_explain" not in name and "act_patch" not in name:
        return None
    frame = _FRAMES["qwen" if "qwen" in name else "llama"]
    block = f"{frame[0]}{SLOTS}{frame[2]}"
    return OraclePlan(OracleProtocol("transluce", InjectionConfig("raw"), frame[1], block, QUESTION, cap=50), listing)
