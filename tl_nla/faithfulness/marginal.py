"""Which tokens carry the reconstruction: the FVE that each token adds, by class of token.

The marginal FVE of token t is the error of the first t - 1 tokens minus that of the first t (error 1, that of the mean,
before the first). The marginals of a text sum to its FVE. Early tokens add more whatever they are, so classes are
compared with others at the same place (:func:`position_matched_excess`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.faithfulness.clauses import quoted_spans
from tl_nla.faithfulness.scoring import Scorer

TOKEN_CLASSES = ("in_quote", "after_quote", "newline", "mark", "subword", "stopword", "first", "word")
BINS = (0, 5, 10, 20, 40, 80, 160)
_STOPWORDS = frozenset(
    "a about an and are as at by for from has have in is it its next of on or recent that the this to was were with "
    "words feels surely likely perhaps".split()
)


@dataclass(frozen=True)
class TokenMarginal:
    """One token of one explanation.

    Attributes:
        row: which explanation.
        index: its place among the explanation's tokens.
        text: the token.
        token_class: one of :data:`TOKEN_CLASSES`.
        marginal: the FVE that it adds.
    """

    row: int
    index: int
    text: str
    token_class: str
    marginal: float


def split_tokens(text: str, tokenizer: Any) -> list[tuple[int, int]]:
    """Character spans of the text's tokens, each beginning where the last one ended.

    Tokens without characters of their own (parts of one character) are left out, so that every prefix is text.
    """
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    ends = sorted({end for start, end in found if end > start} | ({len(text)} if text else set()))
    return list(zip([0, *ends], ends, strict=False))


def token_class(text: str, start: int, end: int) -> str:
    """Class of a token by where it stands and what it is; the first that fits of :data:`TOKEN_CLASSES`."""
    piece, word = text[start:end], text[start:end].strip()
    if "\n" in piece:
        return "newline"
    if word and any(left <= start and end <= right for left, right in quoted_spans(text)):
        return "in_quote"
    if any(right <= start <= right + 1 for _, right in quoted_spans(text)) and word != '"':
        return "after_quote"
    if not re.search(r"\w", word):
        return "mark"
    if start > 0 and text[start - 1].isalnum() and piece[0].isalnum():
        return "subword"
    if word.lower() in _STOPWORDS:
        return "stopword"
    return "first" if start == 0 or text[:start].rstrip(" ").endswith("\n") else "word"


def token_marginals(scorer: Scorer, texts: Sequence[str], tokenizer: Any) -> list[TokenMarginal]:
    """The FVE that each token of each explanation adds; as many readings as there are tokens.

    Args:
        scorer: reconstructor and states.
        texts: explanations, one a state.
        tokenizer: a fast tokenizer, the reconstructor's.
    """
    spans = [split_tokens(text, tokenizer) for text in texts]
    prefixes = [text[:end] for text, own in zip(texts, spans, strict=True) for _, end in own]
    rows = torch.tensor([row for row, own in enumerate(spans) for _ in own], dtype=torch.long)
    errors = scorer.errors(prefixes, rows).tolist()
    share = (scorer.deviations / scorer.deviations.mean()).tolist()
    marginals, place = [], 0
    for row, (text, own) in enumerate(zip(texts, spans, strict=True)):
        before = share[row]
        for index, (start, end) in enumerate(own):
            gain, before = before - errors[place], errors[place]
            marginals.append(TokenMarginal(row, index, text[start:end], token_class(text, start, end), gain))
            place += 1
    return marginals


def excess_values(marginals: Sequence[TokenMarginal], bins: Sequence[int] = BINS) -> Float[Tensor, " n"]:
    """Each token's marginal above the mean of all tokens in its bin of places.

    Args:
        marginals: from :func:`token_marginals`.
        bins: lower ends of the bins of places that are compared with each other.
    """
    place = torch.bucketize(torch.tensor([m.index for m in marginals]), torch.tensor(list(bins)), right=True)
    values = torch.tensor([m.marginal for m in marginals], dtype=torch.float64)
    sums = torch.zeros(len(bins) + 1, dtype=torch.float64).index_add_(0, place, values)
    return values - (sums / place.bincount(minlength=len(bins) + 1).clamp_min(1))[place]


def position_matched_excess(
    marginals: Sequence[TokenMarginal], bins: Sequence[int] = BINS
) -> dict[str, tuple[int, float, float]]:
    """For each class: number of tokens, share of all FVE, and mean :func:`excess_values`."""
    values = torch.tensor([m.marginal for m in marginals], dtype=torch.float64)
    excess = excess_values(marginals, bins)
    table = {}
    for name in TOKEN_CLASSES:
        mine = torch.tensor([m.token_class == name for m in marginals])
        if mine.any():
            table[name] = (int(mine.sum()), float(values[mine].sum() / values.sum()), float(excess[mine].mean()))
    return table
