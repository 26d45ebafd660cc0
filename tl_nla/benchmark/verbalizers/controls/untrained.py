"""The untrained verbalizer: the same base model asked about the vector without any training (SelfIE)."""

from typing import Any

from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.words import Arm
from tl_nla.errors import InputError
from tl_nla.nla import NLA, ActivationOracle, InjectionConfig
from tl_nla.nla.activation_oracle import Asking
from tl_nla.nla.formats.zero_shot import zero_shot_protocol
from tl_nla.nla.fresh import mean_embedding_norm


def untrained_arm(language_model: Any, tokenizer: Any, layer: int, budget: int) -> Arm:
    """What the base model says about the vector in a prompt; a fresh verbalizer where the prompt does not fit."""

    def say(rows: Rows, lengths: list[int]) -> list[str]:
        cap = max(1, *lengths)
        try:
            oracle = ActivationOracle(language_model, tokenizer, zero_shot_protocol(language_model))
            return oracle.ask(rows.acts, layer=layer, asking=Asking(max_new_tokens=min(cap, budget)))
        except InputError:  # a tokenizer without the prompt's placeholder
            scale = mean_embedding_norm(language_model)
            fresh = NLA.create(language_model, tokenizer, layer, InjectionConfig("constant", scale)).eval()
            return fresh.verbalize(rows.acts, max_new_tokens=min(cap, budget))

    return Arm("untrained", say)
