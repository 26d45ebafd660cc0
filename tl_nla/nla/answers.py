"""What of a verbalizer's answer is the explanation: released families write it in different forms."""

import re
from dataclasses import dataclass

from tl_nla.amounts import check_count
from tl_nla.errors import unknown
from tl_nla.nla.prompts import CLOSE, OPEN, extract_explanation, wrap_explanation

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

    Raises:
        InputError: for an unknown form, or no line.
    """

    form: str = "tags"
    lines: int | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown("form of answers", self.form, FORMS)
        if self.lines is not None:
            check_count("lines", self.lines)

    @property
    def cap(self) -> int:
        """Tokens of an answer unless more are asked for."""
        return _CAPS[self.form]

    @property
    def must_end(self) -> bool:
        """Whether an answer that reached the cap without an end counts as failed."""
        return self.form in ("tags", "opened")

    def extract(self, response: str) -> str | None:
        """The explanation in an answer; ``None`` where it has none."""
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

    def begins(self, response: str) -> int:
        """Where an explanation may begin: behind its opening tag, whose letters could pass for one."""
        opened = response.find(OPEN) if self.form == "tags" else -1
        return 0 if opened < 0 else opened + len(OPEN)

    def wrap(self, text: str, between: str = "\n") -> str:
        """The answer that says an explanation."""
        if self.form == "tags":
            return wrap_explanation(text, between)
        if self.form == "opened":
            return f"{text}{between}{CLOSE}"
        return "\n".join(f"- {line}" for line in text.splitlines()) if self.form == "bullets" else text


IN_TAGS = AnswerRule()
"""The official form."""
