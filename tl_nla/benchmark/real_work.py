"""Captures and hooks during generation at real size, each beside a peer on the same work in one run.

Reading and reports are in :mod:`tl_nla.benchmark.real_size`, words of states in ``speaking``. What is here takes a
model with a tokenizer. Memory of the cases is that of tensors, beside the weights.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tl_nla.adapters import ReadingAdapter, attach
from tl_nla.benchmark.bench import Case
from tl_nla.data import Document
from tl_nla.data.explained import explain_states
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import CaptureConfig, capture_writes
from tl_nla.oracle.labels import Vocabulary, whole_words

_DOCUMENTS, _TOKENS = 4, 256
_STATES, _WRITES = 5, 8
_NEW = 60


@dataclass(frozen=True)
class WorkSizes:
    """How much is done by each case.

    Attributes:
        documents: texts that are captured.
        tokens: about how many tokens each has.
        piece: how many vectors are put into words at once; the default is that of ``verbalize``.
        new_tokens: longest explanation, and how long the model generates under hooks.
        prompt: tokens of the text that the model goes on with.
    """

    documents: int = _DOCUMENTS
    tokens: int = _TOKENS
    piece: int = 256
    new_tokens: int = _NEW
    prompt: int = 32


def texts_of(tokenizer: Any, size: int, sizes: WorkSizes) -> list[Document]:
    """Documents of random words of a tokenizer, the same every time."""
    named = torch.nonzero(whole_words(tokenizer, size).allowed).flatten().tolist()
    draw = random.Random(0)
    return [Document(f"text {number}", tokenizer.decode(draw.choices(named, k=sizes.tokens)).strip())
            for number in range(sizes.documents)]  # fmt: skip


def capture_cases(model: Any, tokenizer: Any, sizes: WorkSizes) -> Iterator[Case]:
    """States of one layer, and writes of all heads with labels, without and with skips; beside the bare pass."""
    vocabulary = int(model.W_U.shape[1])
    documents = texts_of(tokenizer, vocabulary, sizes)
    encode = TextEncoder(tokenizer, model, None)
    tokens = [torch.tensor([encode(document.text).ids]) for document in documents]
    bare = partial(_passes, model, tokens)
    layers, heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    point = f"blocks.{layers // 2}.hook_resid_post"
    states = partial(explain_states, model, tokenizer, documents, point, _STATES)
    yield Case(f"capture of one layer's states, {sizes.documents} texts", "bare forward pass of each text", states,
               bare, _anything)  # fmt: skip
    sites = [f"blocks.{layer}.attn.head.{head}" for layer in range(layers) for head in range(heads)]
    named: Vocabulary = whole_words(tokenizer, vocabulary)
    for skips, some in ((False, documents), (True, documents[:1])):
        writes = partial(capture_writes, model, tokenizer, some, sites, CaptureConfig(_WRITES, skips=skips), named)
        answered = "labels and skip answers" if skips else "labels"
        count = f"{len(some)} text{'s' if len(some) > 1 else ''}"
        yield Case(f"capture of all heads' writes at {_WRITES} positions with {answered}, {count}",
                   "bare forward pass of each text", writes, partial(_passes, model, tokens[: len(some)]),
                   _anything)  # fmt: skip


def hook_case(model: Any, sizes: WorkSizes) -> Case:
    """A text that the model continues while an adapter reads it, beside the same without."""
    tokens = torch.randint(int(model.cfg.d_vocab), (1, sizes.prompt), generator=torch.Generator().manual_seed(0))
    site = f"blocks.{int(model.cfg.n_layers) // 2}.hook_resid_post"
    return Case(f"adapter while {sizes.new_tokens} tokens are generated", "generation without it",
                partial(_generated, model, tokens, sizes.new_tokens, ReadingAdapter([site])),
                partial(_generated, model, tokens, sizes.new_tokens, None), torch.equal)  # fmt: skip


@torch.no_grad()
def _passes(model: Any, texts: list[Tensor]) -> list[Tensor]:
    return [model(tokens)[:, -1] for tokens in texts]


@torch.no_grad()
def _generated(model: Any, tokens: Tensor, count: int, adapter: ReadingAdapter | None) -> Tensor:
    settings = {"max_new_tokens": count, "do_sample": False, "stop_at_eos": False, "verbose": False}
    if adapter is None:
        found: Tensor = model.generate(tokens, use_past_kv_cache=True, **settings)
        return found
    adapter.reset()
    with attach(model, adapter):
        found = model.generate(tokens, use_past_kv_cache=True, **settings)
    adapter.reading()
    return found


def _anything(one: Any, other: Any) -> bool:
    """The bare pass gives nothing to compare."""
    return True
