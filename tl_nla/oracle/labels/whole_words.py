"""Which tokens are whole words of a running text: what labels name unless more is asked for.

A token can only be a word where it carries the tokenizer's mark of a word's beginning: a space in byte-level encodings
and in SentencePiece. Whether it is one no vocabulary says. So:

* Where the prompt is English, or there is none, a list of English words decides (:mod:`tl_nla.oracle.labels.words`).
  Names are in it, fragments (" dishwas"), code (" TType") and signs of other scripts are not.
* For a prompt in another language, or a vocabulary without English words, the merges of the byte-pair encoding decide.
  Then only tokens in the scripts of the prompt are named.

Merges are listed by how often a pair stood in the training text, so one over a merge's number stands for its frequency
(Zipf's law). The token " strugg" (merge 3,176) is continued to " struggle" (5,629), " struggles", " struggling" and "
struggled". Together these are as frequent as the token itself, so that nothing is left for the token alone. What is
continued by an "s" is a word all the same. The merges err: of 70 tokens drawn from those that they keep of SmolLM2's,
66 were words, and a label shows eight at a time. Of its 31,706 tokens of letters with a mark 24,842 are on the list.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from tl_nla.oracle.labels.vocabulary import Vocabulary, decoded_tokens
from tl_nla.oracle.labels.words import english_words

MARKS = ("\u0120", "\u2581")
"""What stands for the space before a word, in byte-level encodings and in SentencePiece."""
_CONTINUED = 0.9
"""Share of a token's frequency that may go into longer words before it counts as a beginning only."""
_TOLD = 4
"""A text of fewer words does not tell its language."""
_FEWEST = 100
"""With fewer words than this a vocabulary is not one of words, and every printable token may be named."""
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")


def whole_words(tokenizer: Any, size: int, also: Iterable[int] = ()) -> Vocabulary:
    """The tokens that spell whole words, and some others.

    Tokenizers without a mark of beginnings (one token a word) keep every printable token.

    Args:
        tokenizer: a Hugging Face tokenizer; ``None`` lets every token stand for itself.
        size: number of rows of the unembedding.
        also: ids that may be named in any case, such as those of the prompt.

    Example:
        ``whole_words(model.tokenizer, model.cfg.d_vocab)``
    """
    vocabulary = Vocabulary.of(tokenizer, size)
    if tokenizer is None:
        return vocabulary
    prompt = [token for token in also if token < size]
    texts = decoded_tokens(tokenizer, size)
    text = "".join(texts[token] for token in prompt if token < len(texts))
    known = vocabulary.remembered(tokenizer)
    if "english" not in known:
        known["english"] = _english(tokenizer, vocabulary)
    named = known["english"] if _is_english(text) else None
    if named is None:
        if "whole" not in known:
            known["whole"] = _whole(tokenizer, vocabulary)
        named = known["whole"]
        if named is not None and text.strip():
            named = named & _written_in(vocabulary, text)
    if named is None:
        return vocabulary
    named = named.clone()
    named[prompt] = True
    return replace(vocabulary, allowed=vocabulary.allowed & named)


def _pieces(tokenizer: Any, vocabulary: Vocabulary) -> list[str]:
    pieces = tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), len(vocabulary.texts)))))
    return [piece if isinstance(piece, str) else "" for piece in pieces]


def _is_english(text: str) -> bool:
    """Whether half of a text's words are English; true of a text of few words, but not in another script."""
    words = _WORD.findall(text)
    latin = sum(_script(sign) == "LATIN" for word in words for sign in word)
    if 2 * latin < sum(sign.isalpha() for word in words for sign in word):
        return False
    return len(words) < _TOLD or 2 * sum(word.casefold() in english_words() for word in words) >= len(words)


def _english(tokenizer: Any, vocabulary: Vocabulary) -> torch.Tensor | None:
    """The tokens that begin as words do and are on the list; none for vocabularies that hold few of them."""
    listed, named = english_words(), torch.zeros_like(vocabulary.allowed)
    for number, piece in enumerate(_pieces(tokenizer, vocabulary)):
        named[number] = piece.startswith(MARKS) and vocabulary.texts[number].casefold() in listed
    named &= vocabulary.allowed
    return named if int(named.sum()) >= _FEWEST else None


@cache
def _script(sign: str) -> str:
    """The script of a letter, as the first word of its name; blank for what is no letter."""
    return unicodedata.name(sign, "").split(" ")[0] if sign.isalpha() else ""


def _written_in(vocabulary: Vocabulary, text: str) -> torch.Tensor:
    """The tokens that have letters of a text's scripts alone."""
    scripts = {_script(sign) for sign in set(text)} | {""}
    # Japanese is written in three.
    scripts |= {"CJK", "HIRAGANA", "KATAKANA"} if scripts & {"HIRAGANA", "KATAKANA"} else set()
    return torch.tensor([all(_script(sign) in scripts for sign in own) for own in vocabulary.texts])


def _whole(tokenizer: Any, vocabulary: Vocabulary) -> torch.Tensor | None:
    pieces = _pieces(tokenizer, vocabulary)
    continued = _continued(tokenizer)
    # Of all spellings of a word the commonest one decides: vocabularies are listed by frequency.
    commonest: dict[int, int] = {}
    for number, piece in enumerate(pieces):
        if piece.startswith(MARKS) and bool(vocabulary.allowed[number]):
            commonest.setdefault(int(vocabulary.group[number]), number)
    words = {group for group, number in commonest.items() if _WORD.fullmatch(vocabulary.texts[number])
             and (len(vocabulary.texts[number]) > 1 or _alone(vocabulary.texts[number]))
             and continued.get(pieces[number], 0.0) < _CONTINUED}  # fmt: skip
    # Scripts without spaces have no mark: each of their pieces is taken for a word.
    words |= {
        int(vocabulary.group[number])
        for number, text in enumerate(vocabulary.texts)
        if text and bool(vocabulary.allowed[number]) and all(_alone(sign) for sign in text)
    }
    if len(words) < _FEWEST:
        return None
    return torch.tensor([group in words for group in vocabulary.group.tolist()])


def _alone(sign: str) -> bool:
    """Whether a sign belongs to a script that is written without spaces between words."""
    return len(sign) == 1 and (
        "\u3040" <= sign <= "\u30ff" or "\u4e00" <= sign <= "\u9fff" or "\u0e00" <= sign <= "\u0e7f"
    )


def _continued(tokenizer: Any) -> dict[str, float]:
    """For each token that byte-pair merges make, the share of its frequency that goes on into longer words."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = json.loads(backend.to_str()).get("model", {}) if backend is not None else {}
    rank: dict[str, int] = {}
    share: dict[str, float] = {}
    plural: set[str] = set()
    for number, pair in enumerate(model.get("merges") or (), 1):
        first, second = pair if isinstance(pair, list) else pair.split(" ", 1)
        rank.setdefault(first + second, number)
        if first in rank and second[:1].isalpha():
            share[first] = share.get(first, 0.0) + rank[first] / number
        if second == "s":
            plural.add(first)
    return {token: value for token, value in share.items() if token not in plural}
