"""Memory of the captures at a vocabulary of 256,000 and contexts of 1,024 tokens. Run by ``make bench``."""

from functools import partial

import pytest
import torch

from tests import zoo
from tl_nla.benchmark.peak_memory import PeakMemory
from tl_nla.data import Document
from tl_nla.data.explained import explain_states
from tl_nla.model.facts import facts_of
from tl_nla.oracle import CaptureConfig, capture_writes
from tl_nla.oracle.labels import expected_vocabulary

SHAPE = {"vocab_size": 256_000, "max_position_embeddings": 1024, "hidden_size": 256, "intermediate_size": 1024,
         "num_attention_heads": 8, "num_key_value_heads": 4, "num_hidden_layers": 2}  # fmt: skip
GIGABYTE = 1e9


@pytest.fixture(scope="module")
def model():
    model = zoo.bridge("llama", **SHAPE)
    facts_of(model)
    return model


def documents(count):
    texts = [" ".join(f"w{i}" for i in zoo.tokens(1, 1030, seed=n)[0].tolist()) for n in range(count)]
    return [Document(f"d/{n}", text) for n, text in enumerate(texts)]


def peak_of(model, function):
    with torch.no_grad(), PeakMemory([*model.parameters(), *model.buffers()]) as memory:
        function()
    return memory.peak


@pytest.mark.parametrize("positions", [5, None], ids=["5 positions", "all positions"])
def test_states_of_documents(benchmark, model, positions):
    """The whole logits of 64 such documents would be 67 GB."""
    point = "blocks.1.hook_resid_post"
    given = [(model, model.tokenizer, documents(count), point, positions) for count in (2, 4)]
    taken = [peak_of(model, partial(explain_states, *arguments)) for arguments in given]
    benchmark.extra_info["gigabytes"] = [size / GIGABYTE for size in taken]
    benchmark.pedantic(explain_states, given[0])
    assert taken[1] <= GIGABYTE
    rows = 2 * (positions or 1023) * 256 * 4
    assert taken[1] <= 1.2 * taken[0] + 3 * rows  # the texts are cut at other places


def test_the_expected_vocabulary(benchmark, model):
    taken = peak_of(model, lambda: expected_vocabulary(model, model.tokenizer, documents(2)))
    benchmark.extra_info["gigabytes"] = taken / GIGABYTE
    benchmark.pedantic(expected_vocabulary, (model, model.tokenizer, documents(1)))
    assert taken <= GIGABYTE


def test_writes_of_documents(benchmark, model):
    """Labels with sources, and skips of a few components; neither holds a copy of the unembedding."""
    sites = ["blocks.0.mlp", "blocks.1.attn", *(f"blocks.1.attn.head.{head}" for head in range(8))]
    given = [(model, model.tokenizer, documents(count), sites, CaptureConfig(2)) for count in (2, 4)]
    taken = [peak_of(model, partial(capture_writes, *arguments)) for arguments in given]
    benchmark.extra_info["gigabytes"] = [size / GIGABYTE for size in taken]
    benchmark.pedantic(capture_writes, given[0])
    assert taken[1] <= GIGABYTE
    rows = 2 * 2 * len(sites) * 256 * 4
    assert taken[1] <= 1.2 * taken[0] + 3 * rows
