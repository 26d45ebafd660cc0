"""EasyNLA and the pairs of ceselder: LoRA verbalizers, stacked, with critic folders.

Vectors are added behind the second block and thinking is off. Reconstructors read without special tokens and bring the
state to norm sqrt(d_model) before the head. The sidecar is that of the training data. Known layouts:

- ``av/`` and ``ar/``, or two folders: a PEFT adapter, and ``ar_meta.json`` with ``ar_lora_value_head.safetensors`` or
  whole weights with ``value_head.safetensors``;
- ``av_base/`` (warm start merged), ``av_rl_adapters/iter_N/``, ``ar_reconstructor/``, sidecar at the root;
- ``av_sft_lora/`` and ``av_rl_lora…/``, both active, ``rl_critic…/``: the prompt ends in an open explanation tag;
- ``warmstart_av_lora/`` (lends its tokenizer), ``rl_av_lora_iterN/`` on the raw base, ``rl_critic…/``: prefix-ordered,
  one item a line and no tags.
"""

from dataclasses import replace
from typing import Any

from tl_nla.errors import InputError
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.formats.listing import Listing, pick
from tl_nla.nla.formats.plan import PairPlan, Said, is_of_data
from tl_nla.nla.formats.protocol import ADDITIVE, Protocol
from tl_nla.nla.formats.siblings import halves, needed
from tl_nla.nla.prompts import OPEN, PromptStyle

NAME = "easynla"
_RECOMMENDED = "iter_000300"
"""The author of ceselder/qwen3.6-27b-nla-rl advises step 300."""


def plan(av: Listing, ar: Listing | None, said: Said) -> PairPlan | None:
    """A pair of this family; ``None`` for any other."""
    for layout in (_merged_warm_start, _stacked, _prefix_ordered):
        found = layout(av, ar, said)
        if found is not None:
            return found
    root, (av, ar) = av, halves(av, ar)
    shared = (av,) if root == av else (av, root)
    adapted = av.has("adapter_config.json")
    if not any(is_of_data(listing) for listing in shared) and not (adapted and _base_of_data(av, said)):
        return None
    ar = needed(av, ar)
    if adapted:
        return PairPlan(NAME, ADDITIVE, None, (av,), ar, shared, said.base)
    return PairPlan(NAME, ADDITIVE, av, (), ar, shared, said.base)


def _base_of_data(av: Listing, said: Said) -> bool:
    """Whether an adapter without a sidecar stands on a verbalizer that has one."""
    if av.has("nla_meta.yaml"):
        return False
    base = said.base or av.json("adapter_config.json").get("base_model_name_or_path")
    try:
        return bool(base) and is_of_data(Listing.of(str(base)))
    except InputError:
        return False


def _merged_warm_start(root: Listing, ar: Listing | None, said: Said) -> PairPlan | None:
    if "av_rl_adapters" not in root.folders:
        return None
    steps = root.at("av_rl_adapters")
    adapters = [steps.at(pick(steps, list(steps.folders), said.choice, _RECOMMENDED))] if steps.folders else []
    base = root.at("av_base") if root.at("av_base").has("config.json") else None
    if base is None and "av_warmstart_lora" in root.folders:
        warm = root.at("av_warmstart_lora")
        adapters.insert(0, warm.at(warm.folders[-1]) if warm.folders else warm)
    if not adapters or (base is None and len(adapters) < 2):
        raise InputError(f"{root.title} lacks av_base/ or av_warmstart_lora/, which its RL adapters stand on")
    critic = ar or _critic(root, ("ar_reconstructor",))
    shared = (*reversed(adapters), *([base] if base else []), root, critic)
    return PairPlan(NAME, ADDITIVE, base, tuple(adapters), critic, shared, said.base)


def _stacked(root: Listing, ar: Listing | None, said: Said) -> PairPlan | None:
    steps = [name for name in root.folders if name.startswith("av_rl_lora")]
    if "av_sft_lora" not in root.folders or not steps:
        return None
    first, second = root.at("av_sft_lora"), root.at(pick(root, steps, said.choice))
    critic = ar or _critic(root, ("rl_critic", "ar_sft_critic"))
    prefilled = replace(ADDITIVE, style=PromptStyle(thinking=False, prefill=f"{OPEN}\n"), answers=AnswerRule("opened"))
    protocol = _by_rendered_prompt(root, prefilled)
    return PairPlan(NAME, protocol, None, (first, second), critic, (first, second, root, critic), said.base)


def _prefix_ordered(root: Listing, ar: Listing | None, said: Said) -> PairPlan | None:
    steps = [name for name in root.folders if name.startswith("rl_av_lora")]
    if "warmstart_av_lora" not in root.folders or not steps:
        return None
    adapter, lender = root.at(pick(root, steps, said.choice)), root.at("warmstart_av_lora")
    critic = ar or _critic(root, ("rl_critic", "ar_sft_critic"))
    protocol = replace(ADDITIVE, answers=AnswerRule("lines"))
    return PairPlan(NAME, protocol, None, (adapter,), critic, (adapter, lender, root, critic), said.base)


def _critic(root: Listing, starts: tuple[str, ...]) -> Listing:
    for start in starts:
        names = [name for name in root.folders if name.startswith(start)]
        if names:
            return root.at(names[-1])
    raise InputError(f"{root.title} has no folder {'… or '.join(starts)}…; give the reconstructor's as ar=")


def _by_rendered_prompt(root: Listing, protocol: Protocol) -> Protocol:
    """Whether the explanation tag stands in the prompt, by the rendered prompt where the repository has one."""
    texts = _texts(root.json("nla_config.json"))
    rendered = [text.rstrip() for text in texts if "<concept>" in text]
    if not rendered or any(text.endswith(OPEN) for text in rendered):
        return protocol
    return ADDITIVE


def _texts(found: Any) -> list[str]:
    if isinstance(found, dict):
        return [text for value in found.values() for text in _texts(value)]
    return [found] if isinstance(found, str) else []
