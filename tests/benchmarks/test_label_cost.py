"""What labels cost: sources against a forward pass, effects against the bare matrix product. Run by ``make bench``."""

import time

import pytest
import torch

from tests import zoo
from tl_nla.model.reading import read
from tl_nla.oracle.labels import Lens, Vocabulary, head_sources, write_effects

SIZES = {
    "hidden_size": 288,
    "intermediate_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "vocab_size": 4096,
    "max_position_embeddings": 256,
}


def fastest(function, runs=5):
    """Least processor time of several runs after a warm-up: shared machines only ever add time."""
    function()
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine are counted as work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_sources_and_strengths_of_all_heads(benchmark):
    model, tokens = zoo.bridge("llama", False, **SIZES), torch.randint(4, 4096, (8, 128))
    with torch.no_grad():
        plain = fastest(lambda: model(tokens))
    ratio = fastest(lambda: head_sources(model, tokens)) / plain
    sites = [f"blocks.{layer}.attn.head.{head}" for layer in range(12) for head in range(6)]
    benchmark.extra_info |= {"forward_passes": ratio, "reading_all_head_writes": fastest(
        lambda: [read(model, tokens, sites)[site] for site in sites[:1]], 2) / plain}  # fmt: skip
    benchmark(head_sources, model, tokens)
    assert ratio <= 3, ratio


@pytest.mark.parametrize("vocab", [4096, 32768])
def test_effects_against_the_matrix_product(benchmark, vocab):
    vocabulary, lens = Vocabulary.of(None, vocab), Lens(torch.randn(288, vocab), False)
    write, before = torch.randn(2, 2**25 // vocab, 288)
    plain = fastest(lambda: write @ lens.weight)
    rate = plain / fastest(lambda: write_effects(lens, write, before, vocabulary))
    benchmark.extra_info["share_of_plain_rate"] = rate
    benchmark(write_effects, lens, write, before, vocabulary)
    assert rate >= 0.6, rate
