"""What of a verbalizer's answer is the explanation: released families write it in different forms."""

import re
from dataclasses import dataclass

from tl_nla.amounts import check_count
from tl_nla.errors import InputError, unknown
from tl_nla.nla.prompts import CLOSE, extract_explanation, wrap_explanation

FORMS = ("tags", "opened", "lines", "bullets", "all")
_CAPS = {"tags": 150, "opened": 150, "lines": 256, "bullets": 256, "all": 50}
_BULLET = re.compile(r"^[ \t]*[-*•][ \t]+")


@dataclass(frozen=True)
class AnswerRule:
    """The form of an answer.

    Attributes:
        form: ``tags``: between explanation tags (official NLAs). ``opened``: up to the closing tag, since the opening
            one stands in the prompt. ``lines``: one item a line, the strongest first (prefix-ordered verbalizers,
            which hardly ever end). ``bullets``: lines that start with a dash (oracle lens). ``all``: the whole answer.
        lines: for ``lines``, how many of them are kept; all when ``None``.
        backwards: a heading inside the explanation, such as ``"Recent: "``. The verbalizer says the words behind it
            from the last one backwards, so that greedy words begin with what a state knows best. Explanations have
            them in reading order. ``None``: said as they are read.

    Raises:
        InputError: for an unknown form, no line, or a heading that is empty or does not end with a space.
    """

    form: str = "tags"
    lines: int | None = None
    backwards: str | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown("form of answers", self.form, FORMS)
        if self.lines is not None:
            check_count("lines", self.lines)
        if self.backwards is not None and not (self.backwards.strip() and self.backwards.endswith(" ")):
            raise InputError(f"backwards is {self.backwards!r}; give a heading and its space, such as 'Recent: '")

    @property
    def cap(self) -> int:
        """Tokens of an answer unless more are asked for."""
        return _CAPS[self.form]

    @property
    def must_end(self) -> bool:
        """Whether an answer that reached the cap without an end counts as failed."""
        return self.form in ("tags", "opened")

    def said(self, text: str) -> str:
        """An explanation in the order in which its words are said, or one that was said in reading order."""
        if self.backwards is None or self.backwards not in text:
            return text
        first, heading, words = text.partition(self.backwards)
        return first + heading + " ".join(reversed(words.split()))

    def spoken(self, text: str) -> list[int]:
        """Of each word of an explanation, in reading order, the place at which it is said."""
        count = len(text.split())
        if self.backwards is None or self.backwards not in text:
            return list(range(count))
        first = len("".join(text.partition(self.backwards)[:2]).split())
        return [*range(first), *range(count - 1, first - 1, -1)]

    def extract(self, response: str) -> str | None:
        """The explanation in an answer; ``None`` where it has none."""
        found = self._cut_out(response)
        return None if found is None else self.said(found)

    def _cut_out(self, response: str) -> str | None:
        if self.form == "tags":
            return extract_explanation(response)
        if self.form == "opened":
            inside, closed, _ = response.partition(CLOSE)
            return inside.strip() if closed else None
        if self.form == "all":
            return response.strip() or None
        items = [line.strip() for line in response.splitlines() if line.strip()]
        if self.form == "bullets":
            items = [_BULLET.sub("", item) for item in items if _BULLET.match(item)]
        return "\n".join(items[: self.lines]) or None

    def wrap(self, text: str, between: str = "\n") -> str:
        """The answer that says an explanation."""
        text = self.said(text)
        if self.form == "tags":
            return wrap_explanation(text, between)
        if self.form == "opened":
            return f"{text}{between}{CLOSE}"
        return "\n".join(f"- {line}" for line in text.splitlines()) if self.form == "bullets" else text


IN_TAGS = AnswerRule()
"""The official form."""
