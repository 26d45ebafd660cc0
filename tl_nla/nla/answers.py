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
        plan: so many last words of the explanation are said before it, on a line of their own, the last one first. A
            greedy verbalizer then begins with what a state knows best, and the words that follow lead up to it. The
            plan is no part of the explanation.

    Raises:
        InputError: for an unknown form, no line, or a plan of fewer than no words.
    """

    form: str = "tags"
    lines: int | None = None
    plan: int = 0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown("form of answers", self.form, FORMS)
        if self.lines is not None:
            check_count("lines", self.lines)
        check_count("plan", self.plan, 0)

    @property
    def cap(self) -> int:
        """Tokens of an answer unless more are asked for."""
        return _CAPS[self.form]

    @property
    def must_end(self) -> bool:
        """Whether an answer that reached the cap without an end counts as failed."""
        return self.form in ("tags", "opened")

    def extract(self, response: str) -> str | None:
        """The explanation in an answer; ``None`` where it has none, or lacks its plan."""
        if not self.plan:
            return self._cut_out(response)
        _, line_end, answer = response.partition("\n")
        return self._cut_out(answer) if line_end else None

    def begins(self, response: str) -> int:
        """Where an answer begins: behind its plan and its opening tag, whose letters could pass for an explanation."""
        place = response.find("\n") + 1 if self.plan else 0
        opened = response.find(OPEN, place) if self.form == "tags" else -1
        return place if opened < 0 else opened + len(OPEN)

    def planned(self, text: str) -> list[str]:
        """The words of an explanation that are said before it, in the order in which they are said."""
        return list(reversed(text.split()[-self.plan :])) if self.plan else []

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
        answer = self._in_form(text, between)
        return f"{' '.join(self.planned(text))}\n{answer}" if self.plan else answer

    def _in_form(self, text: str, between: str) -> str:
        if self.form == "tags":
            return wrap_explanation(text, between)
        if self.form == "opened":
            return f"{text}{between}{CLOSE}"
        return "\n".join(f"- {line}" for line in text.splitlines()) if self.form == "bullets" else text


IN_TAGS = AnswerRule()
"""The official form."""
