"""What can be asked about a write, the answers in words, and answers read back."""

import re
from dataclasses import dataclass

from tl_nla.errors import unknown
from tl_nla.oracle.labels.alignment import ALIGNMENT
from tl_nla.oracle.labels.skip import SIZES
from tl_nla.oracle.texts import list_words, parse_words, split_parts

LEVELS = {level.name: level for level in (ALIGNMENT,)}
"""Questions that are answered with one word of a few."""
QUESTIONS: tuple[str, ...] = ("promotes", "suppresses", "sources", "skip", *LEVELS)
LISTS = ("promotes", "suppresses", "sources")
"""Questions that are answered with a list of words."""
EXPLAIN = "explain"

WORDINGS = {
    EXPLAIN: "Explain what this write does.",
    "promotes": "Which tokens does this write make more likely?",
    "suppresses": "Which tokens does this write make less likely?",
    "sources": "Which tokens did this write read? Name the distant ones, then after a semicolon those close by.",
    "skip": "Without this write, what would be predicted next, and how large is the effect?",
    **{name: level.wording for name, level in LEVELS.items()},
}
"""How each question is put to a verbalizer."""
SHORT_WORDINGS = {EXPLAIN: "", "promotes": " promotes", "suppresses": " suppresses", "sources": " attended",
                  "skip": " skip", **{name: level.short for name, level in LEVELS.items()}}  # fmt: skip
"""The same for the embedded default's small verbalizer, whose tokenizer has these as single tokens."""
_SKIP = re.compile(r"(flips to|keeps)\s(.*)", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        question: what was asked.
        text: the answer as it was given.
        tokens: the words it names, strongest first. These are promoted or suppressed words, distant sources, the next
            token without the write, or the one word of a question in ``LEVELS``.
        local: words of local sources (at most 15 back); ``sources`` only.
        weaker: distant sources that were read too little to count, named behind the others; right answers of
            ``sources`` only.
        strong: how many of ``tokens`` were read strongly, with a share of ``STRONG_SHARE`` or more; right answers of
            ``sources`` only.
        flips: whether the next token changes without the write; ``skip`` only, ``None`` when not told.
        size: index into ``SIZES`` of the effect; ``skip`` only, ``None`` when not told.
    """

    question: str
    text: str
    tokens: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    flips: bool | None = None
    size: int | None = None
    weaker: tuple[str, ...] = ()
    strong: int = 0


def check_question(question: str, explain: bool = False) -> str:
    """The question itself.

    Raises:
        InputError: when nobody can answer it.
    """
    options = (*QUESTIONS, EXPLAIN) if explain else QUESTIONS
    if question not in options:
        raise unknown("question", question, options)
    return question


def answer_text(answer: Answer) -> str:
    """The words of an answer: what a verbalizer is taught to say."""
    check_question(answer.question)
    if answer.question == "sources":
        return f"{list_words((*answer.tokens, *answer.weaker))}; {list_words(answer.local)}"
    if answer.question == "skip":
        verb = "flips to" if answer.flips else "keeps"
        size = "" if answer.size is None else f"; {SIZES[answer.size]}"
        return f"{verb} {list_words(answer.tokens[:1])}{size}"
    return list_words(answer.tokens)


def parse_answer(question: str, text: str) -> Answer:
    """Read an answer; whatever cannot be read is left out (never an error).

    Raises:
        InputError: for an unknown question.
    """
    check_question(question)
    body = text.strip()
    if question == "sources":
        distant, near = [*split_parts(body), ""][:2]
        return Answer(question, text, tuple(parse_words(distant)), tuple(parse_words(near)))
    if question == "skip":
        first, *others = split_parts(body)
        size = next((SIZES.index(word) for word in others if word in SIZES), None)
        match = _SKIP.match(first)
        if match is None:
            return Answer(question, text, size=size)
        return Answer(question, text, tuple(parse_words(match[2]))[:1], (), match[1] != "keeps", size)
    if question in LEVELS:
        return Answer(question, text, tuple(word for word in parse_words(body, 1) if word in LEVELS[question].words))
    return Answer(question, text, tuple(parse_words(body)))


def make_answer(question: str, tokens: tuple[str, ...], **rest: object) -> Answer:
    """An answer with its text filled in."""
    bare = Answer(question, "", tokens, **rest)  # type: ignore[arg-type]
    return Answer(question, answer_text(bare), tokens, **rest)  # type: ignore[arg-type]
