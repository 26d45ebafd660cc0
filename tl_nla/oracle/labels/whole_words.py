"""The whole words of a tokenizer, found from its vocabulary alone: what labels name unless more is asked for.

A token is named when it spells a word from its beginning. It carries the tokenizer's mark of a word's beginning and has
at least two letters and nothing but letters (hyphens and apostrophes inside aside). It is not mostly the beginning of
longer words. Its other spellings (without the mark, in capitals) go with it.

The last condition reads the merges of byte-pair encodings. Merges are listed by how often a pair stood in the training
text, so one over a merge's number stands for its frequency (Zipf's law). The token " strugg" (merge 3,176) is continued
to " struggle" (5,629), " struggles", " struggling" and " struggled". Together these are as frequent as the token
itself, so that nothing is left for the token alone. The token " strong" is continued too, but not often enough. What is
continued by an "s" (" detects") is a word all the same. Two kinds of errors remain: a beginning that is never merged on
(" harb") stays, and some words go (" play"). Of 70 tokens drawn from those kept of SmolLM2's, 66 were words.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from tl_nla.oracle.labels.vocabulary import Vocabulary

MARKS = ("\u0120", "\u2581")
"""What stands for the space before a word, in byte-level encodings and in SentencePiece."""
_CONTINUED = 0.9
"""Share of a token's frequency that may go into longer words before it counts as a beginning only."""
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
    known = vocabulary.remembered(tokenizer)
    if "whole" not in known:
        known["whole"] = _whole(tokenizer, vocabulary)
    whole = known["whole"]
    if whole is None:
        return vocabulary
    named = whole.clone()
    named[[token for token in also if token < size]] = True
    return replace(vocabulary, allowed=vocabulary.allowed & named)


def _whole(tokenizer: Any, vocabulary: Vocabulary) -> torch.Tensor | None:
    pieces = tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), len(vocabulary.texts)))))
    pieces = [piece if isinstance(piece, str) else "" for piece in pieces]
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
