"""What a contribution report tells, and how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tl_nla.attribution.direct import UNACCOUNTED
from tl_nla.errors import InputError

Tell = Callable[[str, float], None]
"""Called with the name of a stage and the share of the whole that is done."""


@dataclass(frozen=True)
class ReportConfig:
    """Settings of :func:`tl_nla.reports.layer_contributions`.

    Attributes:
        against: the other token of a logit difference, as ``target``.
        quantity: ``logit``, ``difference`` or ``log_prob`` (see :func:`tl_nla.attribution.direct_attribution`).
        skips: whether skip effects are computed. Where the model permits none they are left out; ``notes`` say why.
        top_k: tokens named as promoted and as suppressed.
        tokenizer: of the model, when it carries none.
        name: of the model, for the report.
        vocabulary: the tokens that may be named as promoted or suppressed. By default the whole words of the tokenizer
            and the tokens of the prompt (:func:`tl_nla.oracle.labels.whole_words`). ``"all"`` for every printable one.
            Or a vocabulary, such as :func:`tl_nla.oracle.labels.expected_vocabulary` of some texts.
        max_unaccounted: share of the range of a position's logits that the parts may leave unexplained. More than one
            hundredth is told as a warning on every view of the report.
        prepend_bos: whether a begin token stands before a text, see :class:`tl_nla.model.text.TextEncoder`.
        explain: settings for ``oracle.explain``, greedy by default; none without an oracle.
        tell: told of each stage and of the share that is done; ``None`` for nobody.
    """

    against: Any = None
    quantity: str | None = None
    skips: bool = True
    top_k: int = 4
    tokenizer: Any = None
    name: str | None = None
    vocabulary: Any = None
    max_unaccounted: float = UNACCOUNTED
    prepend_bos: bool | None = None
    explain: Mapping[str, Any] = field(default_factory=dict)
    tell: Tell | None = None

    def given(self, options: Mapping[str, Any], oracle: Any) -> "ReportConfig":
        """These settings with some of them given by name; what is none of them is for ``oracle.explain``.

        Raises:
            InputError: for a name that is no setting, where no oracle was given.
        """
        known = {item.name for item in fields(self)}
        others = {name: value for name, value in options.items() if name not in known}
        if oracle is None and (others or self.explain):
            # A misspelt argument would else be taken for a setting that nobody reads.
            raise InputError(
                f"unknown argument {', '.join([*others, *self.explain])}; further settings are for oracle.explain, and "
                "no oracle was given"
            )
        own = {name: value for name, value in options.items() if name in known}
        config = replace(self, **own)
        return replace(config, explain={**config.explain, **others})
