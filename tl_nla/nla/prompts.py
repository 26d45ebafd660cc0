"""Prompts of the verbalizer and the reconstructor, as token ids, with every check the released format asks for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tl_nla.errors import InputError
from tl_nla.model.text import own_ids

OPEN, CLOSE = "<explanation>", "</explanation>"
TINY_AV_TEMPLATE = "<concept>{injection_char}</concept>"
TINY_AR_TEMPLATE = "<text>{explanation}</text> <summary>"
AV_TEMPLATE = (
    "You study the inner states of a language model. One such state is a vector, given below between concept tags. "
    "Say what it holds.\n\nWrite between explanation tags: the most recent words, what comes next, and who and what "
    "the text is about.\n\nHere is the vector:\n<concept>{injection_char}</concept>\n\nNow explain it."
)
AR_TEMPLATE = "Summary of the following text: <text>{explanation}</text> <summary>"
_LAST_CHARACTERS = 'a.1)"'
"""Ends of explanations that may merge with what follows."""
_SHORT_TAGS = ("<concept>", "</concept>", "<text>", "</text>", "<summary>", OPEN, CLOSE)


@dataclass(frozen=True)
class PromptStyle:
    """How a user message becomes a prompt; released families differ in it.

    Attributes:
        chat: by the chat template where there is one; otherwise the message itself is the prompt.
        thinking: what the chat template is told as ``enable_thinking``; nothing when ``None``. Qwen3.6's prompt ends in
            an open ``<think>`` unless it is told ``False``.
        prefill: the start of the answer that stands in the prompt already.
    """

    chat: bool = True
    thinking: bool | None = None
    prefill: str = ""


DEFAULT_STYLE = PromptStyle()


@dataclass(frozen=True)
class VerbalizerPrompt:
    """The verbalizer's prompt.

    Attributes:
        template: user message with ``{injection_char}``.
        char: the injection character, a single token.
        ids: token ids of the whole prompt.
        places: positions of the injection tokens in ``ids``.
        style: how it was rendered.
    """

    template: str
    char: str
    ids: list[int]
    places: list[int]
    style: PromptStyle = DEFAULT_STYLE

    @property
    def token_id(self) -> int:
        """Id of the injection character."""
        return self.ids[self.places[0]]

    @property
    def neighbours(self) -> tuple[int, int]:
        """Ids left and right of the injection tokens."""
        return self.ids[self.places[0] - 1], self.ids[self.places[-1] + 1]


def token_of(tokenizer: Any, text: str) -> int | None:
    """Id of the known token that is this text; ``None`` where the text is several tokens or unknown."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    return int(ids[0]) if len(ids) == 1 and tokenizer.decode(ids).strip() == text else None


def has_tags(tokenizer: Any) -> bool:
    """Whether every tag of the short templates is a token, as in the embedded default's vocabulary."""
    return all(token_of(tokenizer, tag) is not None for tag in _SHORT_TAGS)


def check_template(template: str) -> None:
    """Refuse a template without exactly one place for the marker.

    Raises:
        InputError: when it has none or several.
    """
    if template.count("{injection_char}") != 1:
        raise InputError("the verbalizer template must hold {injection_char} exactly once")


def build_verbalizer_prompt(
    tokenizer: Any, template: str, char: str, slots: int = 1, style: PromptStyle = DEFAULT_STYLE
) -> VerbalizerPrompt:
    """Render and tokenise the verbalizer's prompt.

    With a chat template it is one user message with the generation prompt, tokenised in one step (two steps double the
    begin token). Without one it is the template itself with the tokenizer's special tokens.

    Args:
        tokenizer: the verbalizer's tokenizer.
        template: text with ``{injection_char}`` exactly once.
        char: injection character; must be a single token inside the prompt.
        slots: how often the character is repeated.
        style: how the message is rendered.

    Raises:
        InputError: when the character is not one token there, does not stand ``slots`` times in a row, stands at an
            edge, or stands in the template itself.
    """
    check_template(template)
    refuse_injection_char([template.replace("{injection_char}", "")], char)
    ids = render_prompt(tokenizer, template.replace("{injection_char}", char * slots), style)
    # Not the character tokenised alone: tokenizers like Llama 2's would put a space in front of it.
    places = [place for place, token in enumerate(ids) if tokenizer.decode([token]).strip() == char]
    if not places:
        alone = tokenizer.encode(char, add_special_tokens=False)
        raise InputError(
            f"injection character {char!r} is no token of its own in the prompt (alone it is {len(alone)} tokens "
            f"{alone[:8]}); it must be exactly one. Without injection_char, one that will do is chosen or added"
        )
    if len(places) != slots or places[-1] - places[0] != slots - 1 or len({ids[place] for place in places}) != 1:
        where = "" if len(places) != slots else ", but not in a row of one and the same token"
        raise InputError(
            f"injection token {char!r} stands {len(places)} times in the prompt, expected {slots}{where}; leave out "
            "injection_char, and one that will do is chosen or added"
        )
    if places[0] == 0 or places[-1] == len(ids) - 1:
        raise InputError("the injection token stands at the edge of the prompt; it needs a neighbour on either side")
    return VerbalizerPrompt(template, char, ids, places, style)


def render_prompt(tokenizer: Any, text: str, style: PromptStyle = DEFAULT_STYLE) -> list[int]:
    """Token ids of a user message, by the chat template where there is one, else by the tokenizer's own rule.

    No end token stands behind it: the answer follows.

    Raises:
        InputError: when the chat template cannot render a single user message.
    """
    if not style.chat or not getattr(tokenizer, "chat_template", None):
        return own_ids(tokenizer, [text + style.prefill])[0]
    message = [{"role": "user", "content": text}]
    settings: dict[str, Any] = {"add_generation_prompt": True}
    if style.thinking is not None:
        settings["enable_thinking"] = style.thinking
    if style.prefill:  # the rendered text has its begin token already
        rendered = _by_chat_template(tokenizer, message, tokenize=False, **settings)
        return list(tokenizer.encode(rendered + style.prefill, add_special_tokens=False))
    return list(_by_chat_template(tokenizer, message, tokenize=True, return_dict=False, **settings))


def _by_chat_template(tokenizer: Any, messages: list[dict[str, str]], **settings: Any) -> Any:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, **settings)
    except (TemplateError, ValueError, TypeError) as error:
        raise InputError(
            f"the tokenizer's chat template cannot render a plain message: {' '.join(str(error).split())[:200]}; set "
            "tokenizer.chat_template to one that can, or to None"
        ) from error


def reconstructor_ids(tokenizer: Any, template: str, explanations: list[str], special: bool = True) -> list[list[int]]:
    """Token ids of the reconstructor's prompts: raw text (no chat) with the tokenizer's own special tokens.

    Without the begin token that Gemma and Llama tokenizers add, the official reconstructors lose half their FVE. No
    end token stands behind them: the vector is read at the template's last token.

    Args:
        tokenizer: the reconstructor's.
        template: with ``{explanation}``.
        explanations: the texts.
        special: whether the tokenizer's special tokens stand in front; those of EasyNLA and nanoNLA were trained
            without.
    """
    texts = [template.replace("{explanation}", explanation) for explanation in explanations]
    return own_ids(tokenizer, texts) if special else tokenizer(texts, add_special_tokens=False)["input_ids"]


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
        text = _by_chat_template(tokenizer, chat, tokenize=False)
        after = tokenizer.encode(text.rpartition(answer)[2], add_special_tokens=False) if answer in text else []
        added = tokenizer.added_tokens_decoder  # Gemma's end of turn is special, yet not among all_special_ids
        if after and (after[0] in tokenizer.all_special_ids or getattr(added.get(after[0]), "special", False)):
            return int(after[0])
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no end-of-text token; set tokenizer.eos_token")
    return int(tokenizer.eos_token_id)


def suffix_ids(tokenizer: Any, template: str, special: bool = True) -> list[int]:
    """Ids that every reconstructor prompt ends with: the text after the explanation without its first token.

    The first token may merge with the explanation's last character, so it is left out (released recipe). Where that
    token is the space which the tokenizer puts in front of every text, what merges is left out too. A template that
    ends in the explanation has no suffix: the vector is read at the explanation's own last token.

    Raises:
        InputError: when a single token follows the explanation, or none of them stays the same.
    """
    if template.count("{explanation}") != 1:
        raise InputError("the reconstructor template must hold {explanation} exactly once")
    behind = template.split("{explanation}")[1]
    if not behind:
        return []
    ids = tokenizer.encode(behind, add_special_tokens=False)
    if len(ids) < 2:
        raise InputError("the reconstructor template ends in 1 token after the explanation; none or two are needed")
    ends = reconstructor_ids(tokenizer, template, list(_LAST_CHARACTERS), special)
    suffix = ids[1:]
    while suffix and any(row[-len(suffix) :] != suffix for row in ends):
        suffix = suffix[1:]
    if not suffix:
        raise InputError("what follows {explanation} merges with the explanation's end; put a tag of its own there")
    return suffix


def extract_explanation(response: str) -> str | None:
    """Text between the first pair of explanation tags, stripped; ``None`` when there is no closed pair."""
    _, opened, rest = response.partition(OPEN)
    inside, closed, _ = rest.partition(CLOSE)
    return inside.strip() if opened and closed else None


def wrap_explanation(text: str, between: str = "\n") -> str:
    """The response that a verbalizer is taught to give (released recipe: tags on lines of their own)."""
    return f"{OPEN}{between}{text}{between}{CLOSE}"
