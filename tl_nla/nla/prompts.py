"""Prompts of the verbalizer and the reconstructor, as token ids, with every check the released format asks for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tl_nla.errors import InputError

OPEN, CLOSE = "<explanation>", "</explanation>"
TINY_AV_TEMPLATE = "<concept>{injection_char}</concept>"
TINY_AR_TEMPLATE = "<text>{explanation}</text> <summary>"
AV_TEMPLATE = (
    "You study the inner states of a language model. One such state is a vector, given below between concept tags. "
    "Say what it holds.\n\nWrite between explanation tags: the most recent words, what comes next, and who and what "
    "the text is about.\n\nHere is the vector:\n<concept>{injection_char}</concept>\n\nNow explain it."
)
AR_TEMPLATE = "Summary of the following text: <text>{explanation}</text> <summary>"
_CHAR_RANGES = ((0x3200, 0x33FF), (0x2190, 0x27BF), (0x3041, 0x30FF), (0x0391, 0x0451), (0x00A1, 0x024F))
"""The released recipe's range first; then, for small vocabularies, symbols, kana, Greek, Cyrillic, accented letters."""


@dataclass(frozen=True)
class VerbalizerPrompt:
    """The verbalizer's prompt.

    Attributes:
        template: user message with ``{injection_char}``.
        char: the injection character, a single token.
        ids: token ids of the whole prompt.
        places: positions of the injection tokens in ``ids``.
    """

    template: str
    char: str
    ids: list[int]
    places: list[int]

    @property
    def token_id(self) -> int:
        """Id of the injection character."""
        return self.ids[self.places[0]]

    @property
    def neighbours(self) -> tuple[int, int]:
        """Ids left and right of the injection tokens."""
        return self.ids[self.places[0] - 1], self.ids[self.places[-1] + 1]


def choose_injection_char(tokenizer: Any) -> str:
    """First rare character that is a single known token.

    The released recipe looks in U+3200 to U+33FF only; vocabularies without one there (GPT-2's) get the first of the
    symbols, kana, Greek, Cyrillic or accented letters.

    Raises:
        InputError: when the tokenizer has none.
    """
    for first, last in _CHAR_RANGES:
        for code in range(first, last + 1):
            ids = tokenizer.encode(chr(code), add_special_tokens=False)
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                return chr(code)
    raise InputError(
        "the tokenizer has no single-token character among rare ones; add one or give injection_char explicitly"
    )


def build_verbalizer_prompt(tokenizer: Any, template: str, char: str, slots: int = 1) -> VerbalizerPrompt:
    """Render and tokenise the verbalizer's prompt.

    With a chat template it is one user message with the generation prompt, tokenised in one step (two steps
    double the begin token); without one it is the template itself with the tokenizer's special tokens.

    Args:
        tokenizer: the verbalizer's tokenizer.
        template: text with ``{injection_char}`` exactly once.
        char: injection character; must be a single token.
        slots: how often the character is repeated.

    Raises:
        InputError: when the character is not one token, does not stand ``slots`` times in a row, stands at an edge,
            or stands in the template itself.
    """
    single = tokenizer.encode(char, add_special_tokens=False)
    if len(single) != 1 or single[0] == tokenizer.unk_token_id:
        raise InputError(f"injection character {char!r} is {len(single)} tokens {single}; it must be exactly one")
    if template.count("{injection_char}") != 1:
        raise InputError("the verbalizer template must hold {injection_char} exactly once")
    refuse_injection_char([template.replace("{injection_char}", "")], char)
    text = template.replace("{injection_char}", char * slots)
    if getattr(tokenizer, "chat_template", None):
        message = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(message, tokenize=True, add_generation_prompt=True, return_dict=False)
    else:
        ids = tokenizer.encode(text)
    places = [place for place, token in enumerate(ids) if token == single[0]]
    if len(places) != slots or places[-1] - places[0] != slots - 1:
        where = "" if len(places) != slots else ", but not in a row"
        raise InputError(
            f"injection token {single[0]} stands {len(places)} times in the prompt, expected {slots}{where}"
        )
    if places[0] == 0 or places[-1] == len(ids) - 1:
        raise InputError("the injection token stands at the edge of the prompt; it needs a neighbour on either side")
    return VerbalizerPrompt(template, char, list(ids), places)


def reconstructor_ids(tokenizer: Any, template: str, explanations: list[str]) -> list[list[int]]:
    """Token ids of the reconstructor's prompts: raw text (no chat) with the tokenizer's own special tokens.

    Without the begin token that Gemma and Llama tokenizers add, released reconstructors lose half their FVE.
    """
    texts = [template.replace("{explanation}", explanation) for explanation in explanations]
    return tokenizer(texts, add_special_tokens=True)["input_ids"]


def refuse_tags(texts: Iterable[str]) -> None:
    """Refuse explanations that hold an explanation tag: what stands behind it would not be read.

    Raises:
        InputError: naming the first such text by its line, counted from 1.
    """
    for number, text in enumerate(texts, 1):
        tag = next((tag for tag in (OPEN, CLOSE) if tag in text), None)
        if tag:
            raise InputError(
                f"line {number} ({text[:40]!r}) holds {tag!r}, the tag around an explanation; remove it from the text"
            )


def refuse_injection_char(texts: Iterable[str], char: str) -> None:
    """Refuse texts that hold the injection character: the verbalizer could not tell it from its own marker.

    Raises:
        InputError: naming the first such text.
    """
    for number, text in enumerate(texts):
        if char in text:
            raise InputError(
                f"text {number} ({text[:40]!r}) holds the injection character {char!r} (U+{ord(char[0]):04X}), "
                "which is the verbalizer's marker; remove it from the text"
            )


def end_of_response(tokenizer: Any) -> int:
    """Id that ends a response: what the chat template puts after an answer if special, else the end-of-text token."""
    if getattr(tokenizer, "chat_template", None):
        answer = "answer"
        chat = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        after = tokenizer.encode(text[text.rindex(answer) + len(answer) :], add_special_tokens=False)
        added = tokenizer.added_tokens_decoder  # Gemma's end of turn is special, yet not among all_special_ids
        if after and (after[0] in tokenizer.all_special_ids or getattr(added.get(after[0]), "special", False)):
            return int(after[0])
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no end-of-text token; set tokenizer.eos_token")
    return int(tokenizer.eos_token_id)


def suffix_ids(tokenizer: Any, template: str) -> list[int]:
    """Ids that every reconstructor prompt ends with: the text after the explanation without its first token.

    The first token may merge with the explanation's last character, so it is left out (released recipe).

    Raises:
        InputError: when fewer than two tokens follow the explanation.
    """
    if template.count("{explanation}") != 1:
        raise InputError("the reconstructor template must hold {explanation} exactly once")
    ids = tokenizer.encode(template.split("{explanation}")[1], add_special_tokens=False)
    if len(ids) < 2:
        raise InputError(f"the reconstructor template ends in {len(ids)} tokens after the explanation; two are needed")
    return ids[1:]


def extract_explanation(response: str) -> str | None:
    """Text between the first pair of explanation tags, stripped; ``None`` when there is no closed pair."""
    _, opened, rest = response.partition(OPEN)
    inside, closed, _ = rest.partition(CLOSE)
    return inside.strip() if opened and closed else None


def wrap_explanation(text: str, between: str = "\n") -> str:
    """The response that a verbalizer is taught to give (released recipe: tags on lines of their own)."""
    return f"{OPEN}{between}{text}{between}{CLOSE}"
