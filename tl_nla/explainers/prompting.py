"""How a language model is asked for an explanation."""

from dataclasses import dataclass

from tl_nla.errors import InputError
from tl_nla.explainers.base import Moment

STATE_TEMPLATE = (
    "A language model has read the text below up to its last word. In at most two sentences, say what it probably "
    "keeps in mind at that word: what the text is about, facts told so far, and what may come next. Give only these "
    "sentences.\n\nText:\n{text}\n\nLikely next: {guesses}"
)
WRITE_TEMPLATE = (
    "One part of a language model ({site}) has just added a vector while the model read the last word of the text "
    "below. Measured facts about this vector: {label}\nIn one sentence, say what this part did there. Give only this "
    "sentence.\n\nText:\n{text}"
)
_FIELDS = ("{text}", "{recent}", "{guesses}", "{site}", "{label}")


@dataclass(frozen=True)
class PromptTemplates:
    """What is asked about states and about writes.

    Attributes:
        state: with ``{text}`` or ``{recent}``, and perhaps ``{guesses}`` and ``{site}``.
        write: the same, and perhaps ``{label}``, the mechanical label.
        longest: characters of a text that are kept, from its end.

    Raises:
        InputError: for a template that does not show the text.
    """

    state: str = STATE_TEMPLATE
    write: str = WRITE_TEMPLATE
    longest: int = 4000

    def __post_init__(self) -> None:
        for name in ("state", "write"):
            template = getattr(self, name)
            if "{text}" not in template and "{recent}" not in template:
                raise InputError(f"the template for a {name} shows no text; put {{text}} or {{recent}} into it")
        if self.longest < 1:
            raise InputError(f"longest is {self.longest}; at least 1 character of a text must be kept")

    def prompt(self, moment: Moment) -> str:
        """The question about one moment; braces in its texts are left alone."""
        guesses = ", ".join(f"{word!r} ({share:.0%})" for word, share in moment.guesses) or "unknown"
        values = (moment.text[-self.longest :], moment.recent, guesses, moment.site, moment.label)
        filled = self.state if moment.write is None else self.write
        for number, field in enumerate(_FIELDS):
            filled = filled.replace(field, f"\x00{number}\x00")
        for number, value in enumerate(values):
            filled = filled.replace(f"\x00{number}\x00", value)
        return filled
