"""Estimates of readings and captures of states hold on families whose attention differs, in both precisions."""

import pytest
import torch
import transformers

from tl_nla.benchmark import dry_pass
from tl_nla.benchmark.estimate import Workload, estimate
from tl_nla.benchmark.peak_memory import PeakMemory
from tl_nla.benchmark.shapes import bench_model
from tl_nla.model.reading import read

TEXTS, TOKENS = 8, 160
_SIZES = {
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "vocab_size": 90,
}
_GPT2 = {"n_embd": 64, "n_head": 8, "n_layer": 2, "vocab_size": 90, "bos_token_id": 0, "eos_token_id": 0}
FAMILIES = {  # softmax of attention in the model's precision, in float32, and no scores at all
    "gpt2": (transformers.GPT2Config(**_GPT2), transformers.GPT2LMHeadModel),
    "llama": (transformers.LlamaConfig(**_SIZES, num_key_value_heads=4), transformers.LlamaForCausalLM),
    "opt": (transformers.OPTConfig(hidden_size=64, num_attention_heads=8, num_hidden_layers=2, ffn_dim=128,
                                   vocab_size=90, word_embed_proj_dim=64), transformers.OPTForCausalLM),
}  # fmt: skip


@pytest.mark.parametrize(("family", "dtype"), [*((family, "bfloat16") for family in FAMILIES), ("llama", "float32")])
def test_a_pass_is_counted_as_it_is(family, dtype):
    config, kind = FAMILIES[family]
    config.architectures = [kind.__name__]
    model = bench_model(kind, config, family, dtype).bridge
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(2)]
    tokens = torch.zeros(TEXTS, TOKENS, dtype=torch.long)
    read(model, tokens, sites, [-1])  # what is found out once about a model
    for task, kept in (("capture-states", [-1]), ("read", "all")):
        with PeakMemory([*model.parameters(), *model.buffers()]) as memory:
            held = read(model, tokens, sites, kept)
        del held
        found = estimate(config, task, Workload(TEXTS, TOKENS, documents=TEXTS), dtype=dtype)
        assert found.total - found.weights == pytest.approx(memory.peak, rel=0.2)


def test_a_model_that_cannot_be_run_is_counted_by_its_budget(monkeypatch):
    config, _ = FAMILIES["llama"]
    counted = estimate(config, "read", Workload(TEXTS, TOKENS)).total
    monkeypatch.setattr(dry_pass, "unread_logits", lambda model: 1 / 0)
    assert dry_pass.pass_peak(config, torch.float32, TEXTS, TOKENS) is None
    assert estimate(config, "read", Workload(TEXTS, TOKENS)).total > counted


@pytest.mark.parametrize(("task", "room"), [("read", 0), ("report", 0), ("capture-writes", 0), ("reconstructor", 40)])
def test_more_tokens_than_the_model_reads_are_remarked(task, room):
    config = transformers.LlamaConfig(**_SIZES, num_key_value_heads=4, max_position_embeddings=64)
    fits, longer = (
        estimate(config, task, Workload(batch_size=2, tokens=tokens - room, prompt=room or 5, layer=1))
        for tokens in (64, 65)
    )
    assert not [note for note in fits.notes if "at once" in note]
    assert [note for note in longer.notes if note.startswith("65 tokens are more than") and "(64)" in note]
    unlimited = transformers.BloomConfig(hidden_size=64, n_head=8, n_layer=2, vocab_size=90)
    assert not [note for note in estimate(unlimited, "read", Workload(tokens=9000)).notes if "at once" in note]
