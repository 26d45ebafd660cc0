"""What exact skips cost: against one run for each layer and position, and against the length. Run by ``make bench``."""

import time

import pytest
import torch

from tests import zoo
from tests.attribution.reference import leave_out
from tl_nla.attribution import all_components, skip_effects, skip_logits

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 4,
    "vocab_size": 800,
    "max_position_embeddings": 1024,
}


@pytest.fixture(scope="module")
def model():
    return zoo.bridge("llama", **SIZES)


def fastest(function, runs=5):
    """Shortest of several runs after a warm-up: shared machines only ever add time."""
    function()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def forward(model, tokens):
    with torch.no_grad():
        return model(tokens)


def test_against_one_run_for_each_layer_and_position(model, benchmark):
    tokens = torch.randint(4, 800, (1, 128))
    parts = all_components(model)
    one_at_a_time = 0.0
    for part in parts:
        start = time.perf_counter()
        slow = torch.stack([leave_out(model, tokens, part, position)[0, position] for position in range(128)])
        one_at_a_time += time.perf_counter() - start
        assert torch.allclose(skip_logits(model, tokens, part)[0], slow, atol=1e-5)
    benchmark(skip_effects, model, tokens, parts)
    ratio = one_at_a_time / fastest(lambda: skip_effects(model, tokens, parts))
    benchmark.extra_info["ratio"] = ratio
    assert ratio >= 50


def test_cost_grows_with_length_as_a_forward_pass_does(model, benchmark):
    ratios = {}
    for length in (128, 256, 512, 1024):
        tokens = torch.randint(4, 800, (1, length))
        plain = fastest(lambda tokens=tokens: forward(model, tokens), 10)
        ratios[length] = fastest(lambda tokens=tokens: skip_effects(model, tokens)) / plain
    benchmark.extra_info["forward_passes_by_length"] = ratios
    benchmark(skip_effects, model, tokens)
    # Room for the noise of a shared machine, none for another power of the length (which would be a factor of eight).
    assert ratios[1024] <= 1.5 * ratios[128]


@pytest.mark.parametrize("kind", ["block", "head"])
def test_effects_of_all_components(model, benchmark, kind):
    tokens = torch.randint(4, 800, (1, 128))
    benchmark(skip_effects, model, tokens, all_components(model, (kind,)))
