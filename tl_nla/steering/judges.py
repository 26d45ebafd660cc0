"""Judges of steered text: by the embedded world's own parser, and for any model."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics.functional.text import edit_distance

from tl_nla.data.words import split_words
from tl_nla.errors import InputError


def repetition(text: str, size: int = 3) -> float:
    """Share of a text's word n-grams that stood in it before; 0 for texts shorter than ``size``.

    Raises:
        InputError: for a size below one.
    """
    if size < 1:
        raise InputError(f"size is {size}; an n-gram has at least one word")
    words = [word for word, _, _ in split_words(text)]
    grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def word_distance(text: str, other: str) -> float:
    """Word edits (insert, delete, replace) between two texts over the longer one's words, from 0 to 1."""
    first, second = ([word for word, _, _ in split_words(one)] for one in (text, other))
    # torchmetrics counts edits of characters: each word becomes one.
    signs = {word: chr(0x10000 + number) for number, word in enumerate(dict.fromkeys([*first, *second]))}
    one, two = ("".join(signs[word] for word in words) for words in (first, second))
    edits = edit_distance(one, two)
    return float(edits) / max(len(first), len(second), 1)


@torch.no_grad()
def perplexity(model: Any, tokens: Int[Tensor, "1 pos"], prompt: int) -> float:
    """Perplexity under the clean model of the tokens behind the first ``prompt``.

    Raises:
        InputError: when the prompt is empty or nothing stands behind it.
    """
    if not 0 < prompt < tokens.shape[1]:
        raise InputError(f"prompt is {prompt} of {tokens.shape[1]} tokens; at least one has to stand on either side")
    chances = model(tokens)[0, prompt - 1 : -1].float().log_softmax(-1)
    return math.exp(-float(chances.gather(1, tokens[0, prompt:, None].to(chances.device)).mean()))


@torch.no_grad()
def match_probability(
    model: Any, encode: Callable[[str], Sequence[int]], question: str, match: str, other: str
) -> float:
    """P(match): chance of the letter of ``match`` among two options, averaged over both orders (Rimsky et al. 2024).

    Averaging takes out a preference for a letter. Hooks that are on the model stay on: attach steering around the call.

    Args:
        model: a TransformerLens model.
        encode: from text to token ids; ``A`` and ``B`` must be one token each.
        question: what is asked.
        match: the answer that shows the behaviour.
        other: the answer that does not.

    Raises:
        InputError: when a letter is not one token.
    """
    letters = [list(encode(letter)) for letter in ("A", "B")]
    if any(len(letter) != 1 for letter in letters):
        raise InputError("'A' and 'B' have to be one token each; give an encode function without special tokens")
    chances = []
    for place, options in enumerate(((match, other), (other, match))):
        asked = f"{question}\n(A) {options[0]}\n(B) {options[1]}\nAnswer: ("
        logits = model(torch.tensor([list(encode(asked))]))[0, -1].float()
        chances.append(float(logits[[letters[0][0], letters[1][0]]].softmax(-1)[place]))
    return sum(chances) / 2
