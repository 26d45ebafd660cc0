"""Passes that unembed few positions against whole ones."""

import threading
from types import SimpleNamespace

import pytest
import torch

from tests import zoo
from tests.families import bridge
from tl_nla.benchmark.peak_memory import PeakMemory
from tl_nla.model.memory import fitting_batches, pass_bytes
from tl_nla.model.narrow import chosen_logits, logit_pieces, unread_logits
from tl_nla.model.reading import read
from tl_nla.oracle.labels import head_sources

VOCAB, LENGTH = 4096, 48
WIDE = {"vocab_size": VOCAB}


def some(tokens):
    chosen = torch.zeros(tokens.shape, dtype=torch.bool)
    chosen[0, 2] = chosen[-1, 1] = chosen[-1, -1] = True
    return chosen


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "granite", "neox"])
def test_chosen_logits_are_those_of_the_whole_pass(family, dtype):
    model, tokens = bridge(family, dtype), zoo.tokens(2, 9)
    whole, chosen = model(tokens), some(tokens)
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.02}
    torch.testing.assert_close(chosen_logits(model, tokens, chosen), whole[chosen], **close)
    pieces = list(logit_pieces(model, tokens, torch.ones_like(chosen), 5 * zoo.VOCAB))
    assert [len(piece) for piece in pieces] == [5, 5, 5, 3]
    torch.testing.assert_close(torch.cat(pieces), whole.flatten(0, 1), **close)
    torch.testing.assert_close(model(tokens), whole)


def test_both_model_classes():
    if not zoo.HAS_HOOKED_TRANSFORMER:
        pytest.skip("HookedTransformer left TransformerLens with version 4")
    model, tokens = zoo.hooked_transformer(), zoo.tokens(2, 9)
    torch.testing.assert_close(chosen_logits(model, tokens, some(tokens)), model(tokens)[some(tokens)])


@torch.no_grad()
def test_pieces_of_a_model_whose_read_out_is_not_known(monkeypatch):
    model, tokens = bridge("llama"), zoo.tokens(2, 9)
    whole = model(tokens)
    unknown = SimpleNamespace(readout=SimpleNamespace(fit=SimpleNamespace(exact=False)))
    monkeypatch.setattr("tl_nla.model.narrow.facts_of", lambda model: unknown)
    pieces = list(logit_pieces(model, tokens, torch.ones_like(tokens, dtype=torch.bool), 5 * zoo.VOCAB))
    torch.testing.assert_close(torch.cat(pieces), whole.flatten(0, 1))


@torch.no_grad()
def test_hooks_on_the_unembedding_see_every_position_and_stay():
    model, tokens = bridge("llama"), zoo.tokens(2, 9)
    seen = []

    def watch(value, hook):
        seen.append(tuple(value.shape[:2]))
        return 2 * value

    model.hook_dict["unembed.hook_in"].add_hook(watch)
    whole = model(tokens)
    torch.testing.assert_close(chosen_logits(model, tokens, some(tokens)), whole[some(tokens)])
    with unread_logits(model):
        assert model(tokens).shape == whole.shape
    assert seen == [(2, 9)] * 3
    model.reset_hooks()
    assert zoo.hook_counts(model) == zoo.hook_counts(bridge("llama"))


def test_hooks_come_off_when_the_pass_fails():
    model = bridge("llama")
    before = sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())
    with pytest.raises(IndexError), unread_logits(model):
        model(torch.tensor([[zoo.VOCAB + 5]]))
    assert sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules()) == before


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_no_tensor_of_a_reading_is_as_large_as_the_logits(family):
    model, tokens = bridge(family, **WIDE), zoo.tokens(2, LENGTH)
    read(model, tokens[:, :8], [f"blocks.{int(model.cfg.n_layers) - 1}.mlp"])
    logits = 2 * LENGTH * VOCAB * 4
    for what in (
        lambda: read(model, tokens, [f"blocks.{int(model.cfg.n_layers) - 1}.mlp", "blocks.0.attn.head.1"]),
        lambda: head_sources(model, tokens),
        lambda: chosen_logits(model, tokens, some(tokens)),
    ):
        with PeakMemory(model.parameters()) as peak:
            what()
        assert peak.largest < logits / 4


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "qwen3", "neox"])
def test_a_pass_takes_no_more_than_foretold(family):
    """Attention patterns of all layers at once, which TransformerLens keeps for some families, would be far more."""
    model = bridge(family, **({"n_layer": 8} if family == "gpt2" else {}))
    foretold = 2 * pass_bytes(model, LENGTH)
    with unread_logits(model), PeakMemory(model.parameters()) as peak:
        model(zoo.tokens(2, LENGTH))
    assert 0.3 * foretold < peak.peak <= foretold


def test_batches_hold_texts_of_like_length_within_the_budget():
    model = bridge("llama")
    lengths = [5, 40, 6, 41, 5, 39]
    assert fitting_batches(model, lengths, 2) == [[0, 4], [2, 5], [1, 3]]
    assert fitting_batches(model, lengths, 64) == [[0, 4, 2, 5, 1, 3]]
    alone = fitting_batches(model, lengths, 64, budget=1)
    assert alone == [[0], [4], [2], [5], [1], [3]]
    tight = fitting_batches(model, lengths, 64, budget=2 * pass_bytes(model, 41))
    assert max(len(batch) for batch in tight) > 2
    for batch in tight:
        assert len(batch) * pass_bytes(model, max(lengths[row] for row in batch)) <= 2 * pass_bytes(model, 41)
    wanted = fitting_batches(model, lengths, 64, wanted=[3] * 6, logits=6 * zoo.VOCAB)
    assert [len(batch) for batch in wanted] == [2, 2, 2]


@torch.no_grad()
def test_passes_of_other_threads_keep_their_logits():
    model, tokens = bridge("llama"), zoo.tokens(2, 6)
    expected, found = model(tokens), []
    with unread_logits(model):
        other = threading.Thread(target=lambda: found.append(model(tokens)))
        other.start()
        other.join()
        assert model(tokens).shape[:2] == (1, 1)
    torch.testing.assert_close(found[0], expected)
