"""Control tokens: what a tokenizer keeps for itself, and no explanation, label or training text may hold.

A verbalizer that is taught an end token in the middle of an answer learns to stop there. A tokenizer turns the text
``<|im_end|>`` into that token, so that texts are as dangerous as ids.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from tl_nla.errors import InputError

TAG = re.compile(
    r"</?[a-zA-Z][\w.:-]*/?>|<[|｜][^<>]*\w[^<>]*>|<[^<>\s]*\w[^<>\s]*[|｜]>|\[/?[A-Z]{2,}[A-Z_\d]*\]|\[[gs]MASK\]"
)
"""What control tokens look like, and the tags of markup with them."""
_UNUSED = re.compile(
    r"[<\[][|｜]?(?:unused|reserved|extra_id|special|dummy|place.?holder|control)[\w▁:-]*\d[|｜]?[>\]]", re.IGNORECASE
)
"""Places of a vocabulary that stand for nothing."""
_HTML = frozenset(
    "a b i u p em hr br h1 h2 h3 h4 h5 h6 li ol ul dl dt dd td th tr div sub sup code span table tbody thead tfoot "
    "caption strong blockquote".split()
)
"""Names of tags that are tokens of Gemma's: they are words of documents, not control tokens."""
_KNOWN = re.compile(
    r"<[|｜][^<>\s]{1,60}[|｜]>|</?(?:s|unk|pad|bos|eos|mask|explanation|start_of_turn|end_of_turn|think|tool_call)>"
    r"|<(?:unused|extra_id_|reserved_)\d+>|\[/?INST\]|\[(?:CLS|SEP|PAD|MASK|UNK|BOS|EOS)\]"
)
"""Control tokens of well-known tokenizers and the tags of an explanation: other tokenizers read the texts, too."""


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of all control tokens.

    These are the special tokens, named or not. The added ones that look like control tokens, such as ``<think>``. And
    the places of the vocabulary that stand for nothing, such as ``<unused0>`` or ``<|reserved_special_token_0|>``.
    """
    found = {int(token) for token in tokenizer.all_special_ids}
    for token, added in tokenizer.added_tokens_decoder.items():
        text = str(getattr(added, "content", added)).strip()
        if getattr(added, "special", False) or (TAG.fullmatch(text) and text.strip("</>").lower() not in _HTML):
            found.add(int(token))
    found |= {int(token) for text, token in tokenizer.get_vocab().items() if _UNUSED.fullmatch(text.strip("▁Ġ "))}
    return frozenset(found)


def without_control(text: str) -> str:
    """A text without the control tokens of well-known tokenizers and without explanation tags."""
    while (shorter := _KNOWN.sub("", text)) != text:  # what is left may join to another one
        text = shorter
    return text


def cleaner(tokenizer: Any) -> Callable[[str], str]:
    """A function that takes the names of a tokenizer's control tokens out of a text, which it would read as such.

    Args:
        tokenizer: any; SmolLM2's ``<filename>`` is such a name, which texts do hold.
    """
    names = {str(tokenizer.convert_ids_to_tokens(token)).strip() for token in control_ids(tokenizer)} - {""}
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"(?!)")

    def clean(text: str) -> str:
        while (shorter := pattern.sub("", text)) != text:  # what is left may join to another one
            text = shorter
        return text

    return clean


def refuse_control(
    texts: Sequence[str], rows: Sequence[Sequence[int]], tokenizer: Any, control: frozenset[int],
    around: Sequence[int] = (),
) -> None:  # fmt: skip
    """Refuse texts that hold a control token.

    Args:
        texts: what was given.
        rows: token ids of each.
        tokenizer: that gave them.
        control: see :func:`control_ids`.
        around: ids that were put around every text, of which each may stand once.

    Raises:
        InputError: naming the first such text by its line, counted from 1.
    """
    for number, (text, row) in enumerate(zip(texts, rows, strict=True), 1):
        found = [token for token in row if token in control and not _unknown(tokenizer, token, text)]
        for token in around:
            if token in found:
                found.remove(token)
        if found:
            raise InputError(
                f"line {number} ({text[:40]!r}) holds the control token {tokenizer.decode(found[:1])!r}; "
                "who learns this text learns to stop there, so remove it"
            )


def _unknown(tokenizer: Any, token: int, text: str) -> bool:
    """Whether a token only says that the vocabulary lacks a word, which is no control token that somebody wrote."""
    return token == getattr(tokenizer, "unk_token_id", None) and str(tokenizer.unk_token) not in text
