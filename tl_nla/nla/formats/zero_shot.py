"""Baselines without training: a model that reads its own states through a prompt (SelfIE, Patchscopes)."""

from typing import Any

from tl_nla.errors import unknown
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.oracle_prompt import QUESTION, SLOTS, VECTORS, OracleProtocol
from tl_nla.nla.prompts import PromptStyle

METHODS = ("selfie", "patchscopes")


def zero_shot_protocol(model: Any, method: str = "selfie", scale: float | None = None) -> OracleProtocol:
    """How an untrained model is asked about its states.

    ``selfie`` gives the embedding of a placeholder the vector's direction and asks what the placeholder means. (Chen et
    al. 2024, in the form with one scale.) ``patchscopes`` puts the vector as it is at the output of the block that it
    was read from, behind a few repeated words. It has no question (Ghandeharioun et al. 2024, token identity).

    Args:
        model: the causal language model that is asked.
        method: one of the two.
        scale: for ``selfie``, L2 norm of the embedding; the mean norm of the model's token embeddings when ``None``.

    Raises:
        InputError: for another method.
    """
    if method not in METHODS:
        raise unknown("baseline", method, METHODS)
    if method == "patchscopes":
        repeated = f"cat -> cat\n1135 -> 1135\nhello -> hello\n{VECTORS}"
        return OracleProtocol(
            "patchscopes", InjectionConfig("patched"), "?", SLOTS, repeated,
            question="", style=PromptStyle(chat=False), same_block=True,
        )  # fmt: skip
    from tl_nla.nla.fresh import mean_embedding_norm

    norm = mean_embedding_norm(model) if scale is None else scale
    message = f"A placeholder stands for a thought:{VECTORS}.\n{QUESTION}"
    return OracleProtocol(
        "selfie", InjectionConfig("constant", norm), " X", SLOTS, message,
        question="In a few words, what is the thought about?", cap=50,
    )  # fmt: skip
