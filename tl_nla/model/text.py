"""From text to token ids, by one rule for every place where text enters.

With a TransformerLens model the ids are those of ``model.to_tokens(text)``. The family decides there whether a begin
token stands in front (``cfg.default_prepend_bos``): Qwen, Phi, GPT-NeoX and BLOOM have none, GPT-2, Llama and Gemma
have one. TransformerLens makes the end token the begin token of a tokenizer that has none, so ``bos_token_id`` alone
says nothing.

Without such a model the ids are those of the tokenizer's own rule, ``tokenizer(text)``. A tokenizer that adds nothing
by itself gets its begin token in front. This is so only where the begin token is a token of its own, not the end token
again.

In both cases a text that starts with the begin token, such as a rendered chat template, gets no second one. No end
token is put behind a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tl_nla.errors import InputError

_PROBE = "a"
_UNDECODED = range(0xDC80, 0xDD00)
"""What Python makes of bytes that are not UTF-8, in arguments of a command and with ``surrogateescape``."""


@dataclass(frozen=True)
class TextTokens:
    """A text as token ids.

    Attributes:
        ids: the ids, begin token included.
        added: how many of the first ids were put in front and stand for nothing in the text.
    """

    ids: list[int]
    added: int

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, length: int) -> "TextTokens":
        """The first ``length`` ids."""
        return TextTokens(self.ids[:length], min(self.added, length))


class TextEncoder:
    """Gives the token ids of texts.

    Args:
        tokenizer: of the model.
        model: a ``HookedTransformer`` or ``TransformerBridge``, whose ``to_tokens`` decides; without one (or for a
            model without a tokenizer) the tokenizer decides.
        prepend_bos: whether a begin token stands in front of every text; by the rule of this module when ``None``.

    Attributes:
        begin: ids that stand in front of a text which does not start with them itself.

    Raises:
        InputError: when a begin token is asked for and there is none.
    """

    def __init__(self, tokenizer: Any, model: Any = None, prepend_bos: bool | None = None) -> None:
        if prepend_bos is not None and not isinstance(prepend_bos, bool):
            raise InputError(f"prepend_bos is {prepend_bos!r}; allowed: true, false, or none for the model's own rule")
        self.tokenizer = tokenizer
        if getattr(model, "tokenizer", None) is not None and callable(getattr(model, "to_tokens", None)):
            self.begin = _begin_of_model(tokenizer, model, prepend_bos)
        else:
            self.begin = _begin_of_tokenizer(tokenizer, prepend_bos)
        if prepend_bos and not self.begin:
            raise InputError(
                "prepend_bos is on, but the tokenizer has no begin token; leave it off, or set tokenizer.bos_token"
            )

    def __call__(self, text: str) -> TextTokens:
        """The ids of one text; none but the begin token for an empty one.

        Raises:
            InputError: when it is no string, or holds half a character.
        """
        return self.behind_begin(self.tokenizer.encode(checked(text), add_special_tokens=False))

    def behind_begin(self, ids: Sequence[int]) -> TextTokens:
        """Ids of a text, or of a part of one, behind what stands in front of a text; never a begin token twice."""
        known = next(size for size in range(len(self.begin), -1, -1) if _overlap(self.begin, ids, size))
        front = self.begin[: len(self.begin) - known]
        return TextTokens([*front, *ids], len(front))


def own_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts by the tokenizer's own rule, without what it puts behind a text by itself, such as an end token.

    A text that something shall follow, or whose last token is read, may not end there.
    """
    rows = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    behind = _behind(tokenizer)
    return [list(row[: len(row) - behind]) for row in rows]


def checked(text: Any, what: str = "the text") -> str:
    """The text itself.

    Raises:
        InputError: when it is no string, holds half a character (a lone UTF-16 surrogate, which no tokenizer reads), or
            bytes that Python could not decode and kept.
    """
    if not isinstance(text, str):
        raise InputError(f"{what} is {type(text).__name__} ({str(text)[:40]}); give a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        sign, place = ord(text[error.start]), error.start
        if sign in _UNDECODED:
            raise InputError(f"{what} is not UTF-8 (byte {sign - 0xDC00:#04x} at place {place}); convert it") from None
        raise InputError(
            f"{what} holds half a character (a lone surrogate U+{sign:04X} at place {place}); give whole characters"
        ) from None
    return text


def _overlap(begin: Sequence[int], ids: Sequence[int], size: int) -> bool:
    return list(begin[len(begin) - size :]) == list(ids[:size])


def _begin_of_model(tokenizer: Any, model: Any, prepend_bos: bool | None) -> list[int]:
    found = model.to_tokens(_PROBE, prepend_bos=prepend_bos, move_to_device=False)[0].tolist()
    begin = _in_front(found, model.tokenizer)
    # TransformerLens invents an end token for a tokenizer without one; the model has no embedding of it.
    size = int(getattr(model.cfg, "d_vocab", 0) or len(tokenizer))
    return begin if all(token < size for token in begin) else []


def _begin_of_tokenizer(tokenizer: Any, prepend_bos: bool | None) -> list[int]:
    own, bos = _in_front(tokenizer(_PROBE)["input_ids"], tokenizer), tokenizer.bos_token_id
    if prepend_bos is False:
        return [token for token in own if token != bos]
    if own and (prepend_bos is None or bos in own):
        return own
    if bos is None or (prepend_bos is None and bos == tokenizer.eos_token_id):
        return own
    return [int(bos), *own]


def _behind(tokenizer: Any) -> int:
    """How many ids the tokenizer puts behind a text."""
    found, plain = tokenizer(_PROBE)["input_ids"], tokenizer.encode(_PROBE, add_special_tokens=False)
    for behind in range(len(found) - len(plain) + 1):
        if found[len(found) - behind - len(plain) : len(found) - behind] == plain:
            return behind
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {None}
    return next(place for place, token in enumerate([*reversed(found), None]) if token not in ends)


def _in_front(ids: list[int], tokenizer: Any) -> list[int]:
    """What stands before the probe among ids that may also hold something behind it."""
    plain = tokenizer.encode(_PROBE, add_special_tokens=False)
    for start in range(len(ids) - len(plain), -1, -1):
        if ids[start : start + len(plain)] == plain:
            return ids[:start]
    # Behind a begin token that was given as text, SentencePiece puts no space before the first word.
    known = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
    return ids[:1] if ids and ids[0] in known else []
