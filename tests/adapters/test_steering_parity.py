"""The same steered text comes out with and without the key-value cache, in a batch and alone.

``PARITY_PROMPTS=50`` runs it on fifty prompts, as docs/studies/steering/README.md does.
"""

import os

import pytest
import torch

import tl_nla
from tl_nla.adapters import SteeringAdapter
from tl_nla.steering import substitute
from tl_nla.storyworld.corpus import held_out_stories, story_ids
from tl_nla.storyworld.lexicon import COLOURS, FEELINGS, PLACES

PROMPTS = int(os.environ.get("PARITY_PROMPTS", "8"))
TOKENS, NEW = 40, 4 if PROMPTS <= 8 else 16
NEXT = {word: words[(place + 1) % len(words)] for words in (COLOURS, FEELINGS, PLACES)
        for place, word in enumerate(words)}  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    return tl_nla.load_tiny()


@pytest.fixture(scope="module")
def prompts(tiny):
    rows = [story_ids(tiny.tokenizer, story)[:TOKENS] for story in held_out_stories(2 * PROMPTS)]
    return torch.tensor([row for row in rows if len(row) == TOKENS][:PROMPTS])


def steer(tiny, tokens, cache=True, strength=1.0):
    adapter = SteeringAdapter(tiny.nla, tiny.nla.site, substitute(NEXT), strength=strength,
                              positions=slice(-1, None))  # fmt: skip
    with tl_nla.attach(tiny.model, adapter):
        grown = tiny.model.generate(tokens, max_new_tokens=NEW, do_sample=False, verbose=False, stop_at_eos=False,
                                    use_past_kv_cache=cache)  # fmt: skip
    return grown[:, TOKENS:], adapter.results()


@pytest.fixture(scope="module")
def cached(tiny, prompts):
    return steer(tiny, prompts)


def plain(tiny, tokens):
    return tiny.model.generate(tokens, max_new_tokens=NEW, do_sample=False, verbose=False, stop_at_eos=False)


def test_steering_changes_the_texts(tiny, prompts, cached):
    said, rows = cached
    assert len(said) == PROMPTS
    assert len(rows) == PROMPTS * NEW, "the prompt's last state and those of generated tokens, each once"
    assert (said != plain(tiny, prompts)[:, TOKENS:]).any(1).float().mean() > 0.3


def test_identical_with_and_without_the_cache(tiny, prompts, cached):
    without, _ = steer(tiny, prompts, cache=False)
    assert torch.equal(cached[0], without)


def test_a_batch_of_eight_is_eight_times_one(tiny, prompts):
    together, _ = steer(tiny, prompts[:8])
    alone = torch.cat([steer(tiny, row[None])[0] for row in prompts[:8]])
    assert torch.equal(together, alone)


def test_strength_zero_is_bit_equal(tiny, prompts):
    few = prompts[:8]
    adapter = SteeringAdapter(tiny.nla, tiny.nla.site, substitute(NEXT), strength=0.0)
    with torch.no_grad():
        steered = tiny.model.run_with_hooks(few, fwd_hooks=adapter.hooks(tiny.model))
        assert torch.equal(steered, tiny.model(few))
    assert any(row.before != row.after for row in adapter.results()), "there was something to change"
    assert torch.equal(steer(tiny, few, strength=0.0)[0], plain(tiny, few)[:, TOKENS:])
