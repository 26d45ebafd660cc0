"""Which tokens of a vocabulary may be named, and which are the same word."""

import re
import weakref
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.control import TAG, control_ids, without_control

_known: "weakref.WeakKeyDictionary[Any, dict[Any, Any]]" = weakref.WeakKeyDictionary()
_MARKED = re.compile("[\u3200-\u33ff]")
"""Characters that mark the slots of verbalizers; no text that a verbalizer is taught may hold one."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that labels may name.

    Attributes:
        texts: text of every token without the space around it. Blank for control tokens and characters that mark a
            verbalizer's slots: named in a label, one would end the verbalizer's answer.
        group: number of the word that a token spells, case and leading space aside; the same for all its variants.
        allowed: false for special tokens, tags, blank and unprintable ones and parts of a UTF-8 character.
    """

    texts: tuple[str, ...]
    group: Int[Tensor, " vocab"]
    allowed: Bool[Tensor, " vocab"]

    @classmethod
    def of(cls, tokenizer: Any, size: int) -> "Vocabulary":
        """The vocabulary of a tokenizer.

        Args:
            tokenizer: a Hugging Face tokenizer; ``None`` lets every token stand for itself, named by its id.
            size: number of rows of the unembedding; rows without a token are not allowed.
        """
        if tokenizer is None:
            return cls(numbered(size), torch.arange(size), torch.ones(size, dtype=torch.bool))
        known = _known.setdefault(tokenizer, {})
        key = "vocabulary", size, len(tokenizer)
        if key not in known:
            known[key] = cls._of(tokenizer, size)
        found: Vocabulary = known[key]
        return found

    @classmethod
    def _of(cls, tokenizer: Any, size: int) -> "Vocabulary":
        decoded = decoded_tokens(tokenizer, size)
        decoded += ("",) * (size - len(decoded))
        control = control_ids(tokenizer)
        texts = tuple("" if i in control or _unsayable(text) else text.strip() for i, text in enumerate(decoded))
        allowed = [
            bool(text) and text.isprintable() and "\ufffd" not in text and not TAG.search(text) for text in texts
        ]
        numbers_of: dict[str, int] = {}
        group = [numbers_of.setdefault(text.casefold(), len(numbers_of)) for text in texts]
        if not any(allowed):
            raise InputError("the tokenizer has no token that could be named; every one is special or blank")
        return cls(texts, torch.tensor(group), torch.tensor(allowed))

    def remembered(self, tokenizer: Any) -> dict[Any, Any]:
        """What is kept of a tokenizer as long as it lives and has so many tokens."""
        kept: dict[Any, Any] = _known.setdefault(tokenizer, {}).setdefault((len(self.texts), len(tokenizer)), {})
        return kept

    def words(self, ids: Int[Tensor, "n k"]) -> list[list[str]]:
        """Texts of rows of ids, -1 left out."""
        return [[self.texts[i] for i in row if i >= 0] for row in ids.tolist()]


def decoded_tokens(tokenizer: Any, size: int) -> tuple[str, ...]:
    """Texts of a tokenizer's first tokens, at most ``size``; decoded once as long as it has so many tokens."""
    known = _known.setdefault(tokenizer, {})
    count = min(size, len(tokenizer))
    key = "texts", count, len(tokenizer)
    if key not in known:
        fast = getattr(tokenizer, "_tokenizer", None)
        if fast is not None and not getattr(tokenizer, "clean_up_tokenization_spaces", True):
            # The same in a third of the time.
            known[key] = tuple(fast.decode_batch([[number] for number in range(count)], skip_special_tokens=False))
        else:
            known[key] = tuple(tokenizer.decode([number]) for number in range(count))
    texts: tuple[str, ...] = known[key]
    return texts


@lru_cache(maxsize=8)
def numbered(size: int) -> tuple[str, ...]:
    """Names of tokens without a tokenizer."""
    return tuple(f"#{i}" for i in range(size))


def _unsayable(text: str) -> bool:
    return without_control(text) != text or _MARKED.search(text) is not None
