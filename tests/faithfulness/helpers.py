"""Reconstructors whose reading is known, and explanations with their truth."""

import functools
import zlib

import torch

from tl_nla.storyworld.claims import Truth
from tl_nla.storyworld.documents import world_documents
from tl_nla.storyworld.explanations import write_explanation
from tl_nla.storyworld.parser import parse

SIZE = 16


def word_vector(word):
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(zlib.crc32(word.encode())))


def bag(texts):
    """Sum of the words' vectors: order means nothing."""
    return torch.stack([sum((word_vector(w) for w in t.split()), 0.1 * word_vector("")) for t in texts])


def ordered(texts):
    """Early words count more."""
    rows = []
    for text in texts:
        parts = [word_vector(w) * 0.8**place for place, w in enumerate(text.split())]
        rows.append(sum(parts, 0.1 * word_vector("")))
    return torch.stack(rows)


def explained(count=12, word=30):
    """Gold explanations of story moments with their truths, token positions and the text so far."""
    texts, truths, positions, read = _explained(count, word)
    return list(texts), list(truths), torch.tensor(positions), list(read)


@functools.cache
def _explained(count, word):
    texts, truths, positions, read = [], [], [], []
    for document in world_documents(count, seed=5):
        parsed = parse(document.text)
        place = min(word, len(parsed.words) - 1)
        end = parsed.spans[place][1]
        recent = document.text[parsed.spans[place - 5][0] : end]
        guesses = [(" the", 0.95)] if len(texts) % 2 else [(" Tom", 0.6), (" Lily", 0.2)]
        texts.append(write_explanation(parsed.facts[place], recent, guesses))
        truths.append(Truth(parsed.facts[place], recent, tuple(guess for guess, _ in guesses)))
        positions.append(place + 1)
        read.append(document.text[:end])
    return texts, truths, positions, read
