"""What a family of released pairs does differently from the official ones."""

from dataclasses import dataclass

from tl_nla.nla.answers import IN_TAGS, AnswerRule
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.prompts import DEFAULT_STYLE, PromptStyle


@dataclass(frozen=True)
class Protocol:
    """How a pair is read; the defaults are those of the official pairs (kitft).

    Attributes:
        style: how the verbalizer's prompt is rendered.
        answers: what of its answer is the explanation.
        injection: how vectors enter; by the sidecar when ``None``.
        ar_special: whether the reconstructor's prompts have the tokenizer's special tokens.
        ar_rescaled: whether the state is brought to norm sqrt(d_model) before the head.
    """

    style: PromptStyle = DEFAULT_STYLE
    answers: AnswerRule = IN_TAGS
    injection: InjectionConfig | None = None
    ar_special: bool = True
    ar_rescaled: bool = False


OFFICIAL = Protocol()
ADDITIVE = Protocol(PromptStyle(thinking=False), injection=InjectionConfig("additive"), ar_special=False,
                    ar_rescaled=True)  # fmt: skip
"""EasyNLA and nanoNLA: thinking off, vectors added behind the second block, reconstructors without special tokens."""
