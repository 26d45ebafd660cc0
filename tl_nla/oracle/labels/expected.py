"""The tokens that a model ever expects: only they say something to a person when a label names them.

A vocabulary holds tokens that a model never learned (bytes, characters, words of other languages). Their rows of the
unembedding all point away from what the model predicts, so that every write "suppresses" them. Of the embedded
default's 547 tokens 217 occur in its stories. Without this restriction the other 330 made up more than half of the
words named as suppressed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.data import Document
from tl_nla.data.progress import told
from tl_nla.errors import InputError
from tl_nla.model.narrow import logit_pieces
from tl_nla.model.probe import device_of
from tl_nla.model.text import TextEncoder
from tl_nla.oracle.labels.vocabulary import Vocabulary

SHARE = 0.01
"""Smallest mean probability, as a share of the uniform one, of a token that may be named."""
DOCUMENTS = 100
_PIECE = 2**24


def expected_vocabulary(
    model: Any, tokenizer: Any, documents: Sequence[Document], share: float = SHARE, limit: int = DOCUMENTS,
    prepend_bos: bool | None = None,
) -> Vocabulary:  # fmt: skip
    """The vocabulary without the tokens that the model hardly ever expects in these documents.

    Args:
        model: a TransformerLens model.
        tokenizer: its tokenizer.
        documents: training documents (never held-out ones, or labels would know of them).
        share: a token may be named when its mean next-token probability is at least this share of ``1 / vocabulary``;
            0 leaves all.
        limit: how many of the documents are read.
        prepend_bos: see :class:`tl_nla.model.text.TextEncoder`.

    Raises:
        InputError: for a share below 0, documents without text, or a begin token that the tokenizer does not have.
    """
    if share < 0:
        raise InputError(f"share is {share}; allowed: zero (all tokens) or more")
    vocabulary = Vocabulary.of(tokenizer, int(model.W_U.shape[1]))
    if share == 0:
        return vocabulary
    mean = mean_prediction(model, tokenizer, documents[:limit], prepend_bos)
    allowed = vocabulary.allowed & (mean >= share / len(mean)).cpu()
    return replace(vocabulary, allowed=allowed)


@torch.no_grad()
def mean_prediction(
    model: Any, tokenizer: Any, documents: Sequence[Document], prepend_bos: bool | None = None
) -> Float[Tensor, " vocab"]:
    """Mean next-token distribution over all positions of the documents, each cut to the model's context.

    Raises:
        InputError: when no document has a token.
    """
    encode, context = TextEncoder(tokenizer, model, prepend_bos), int(model.cfg.n_ctx)
    total: Tensor | None = None
    count = 0
    for (document,) in told([[document] for document in documents], "reading which tokens are expected"):
        found = encode(document.text)
        if len(found) == found.added:
            continue
        ids = found.cut(context).ids
        tokens = torch.tensor([ids], device=device_of(model))
        for logits in logit_pieces(model, tokens, torch.ones_like(tokens, dtype=torch.bool), _PIECE):
            summed = logits.float().softmax(-1).sum(0, dtype=torch.float64)
            total = summed if total is None else total + summed
        count += len(ids)
    if total is None:
        raise InputError("no document has a token; give texts")
    return total / count
