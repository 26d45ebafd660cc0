"""Adapters around runs that are given states (``start_at_layer``): what such a run computes is read and steered."""

import pytest
import torch

from tests import zoo
from tl_nla.adapters import ReadingAdapter, VectorAdapter, VerbalizerAdapter, attach
from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.steering import SteeringVector

STARTS = not zoo.HAS_HOOKED_TRANSFORMER
KINDS = [("bridge", family) for family in ("gpt2", "llama", "gemma3")] if STARTS else [("hooked", "gpt2")]
SITES = ["blocks.2.hook_resid_post", "blocks.1.attn.head.3", "blocks.1"]


@pytest.fixture(params=KINDS, ids="-".join)
def model(request, get_model):
    return get_model(*request.param)


def states_into(model, layer, tokens=None):
    tokens = zoo.tokens() if tokens is None else tokens
    point = f"blocks.{layer}.hook_resid_pre"
    return read(model, tokens, [point])[point].unflatten(0, tuple(tokens.shape)).clone()


def run_from(model, layer, states, adapter, way="attach"):
    if way == "attach":
        with attach(model, adapter), torch.no_grad():
            return model(states, start_at_layer=layer)
    with torch.no_grad():
        return model.run_with_hooks(states, fwd_hooks=adapter.hooks(model), start_at_layer=layer)


@pytest.mark.parametrize("way", ["attach", "run_with_hooks"])
@pytest.mark.parametrize("layer", [0, 1])
def test_such_a_run_is_read_without_ids(model, layer, way):
    adapter = ReadingAdapter(SITES, [0, -2])
    run_from(model, layer, states_into(model, layer), adapter, way)
    reading, wanted = adapter.reading(), read(model, zoo.tokens(), SITES, [0, -2])
    assert torch.equal(reading.position, wanted.position)
    assert (reading.tokens == -1).all()
    for site in SITES:
        torch.testing.assert_close(reading[site], wanted[site], atol=1e-5, rtol=1e-4)
    for site in SITES[1:]:
        torch.testing.assert_close(reading.before(site), wanted.before(site), atol=1e-5, rtol=1e-4)


def test_runs_from_several_blocks_are_texts_of_their_own(model):
    adapter, site = ReadingAdapter("blocks.2"), "blocks.2"
    tokens, others = zoo.tokens(1, 5), zoo.tokens(1, 5, seed=4)
    first, second = states_into(model, 1, others), states_into(model, 2, others)
    with attach(model, adapter), torch.no_grad():
        model(tokens)
        model(first, start_at_layer=1)
        model(second, start_at_layer=2)
        model(tokens)
        model(second[:, :1], start_at_layer=2)  # a single column behind a whole run is no generated token
    reading = adapter.reading()
    assert reading.batch.tolist() == [row for row, length in enumerate((5, 5, 5, 5, 1)) for _ in range(length)]
    assert reading.position.tolist() == [*list(range(5)) * 4, 0]
    known = tokens if hasattr(model, "original_model") else torch.full((1, 5), -1)
    assert torch.equal(reading.tokens[[0, 3]], known.expand(2, -1))
    assert (reading.tokens[[1, 2, 4]] == -1).all()
    for row, text in enumerate((tokens, others, others, tokens)):
        torch.testing.assert_close(
            reading[site][reading.batch == row], read(model, text, [site])[site], atol=1e-5, rtol=1e-4
        )


def test_a_run_that_starts_behind_a_site_is_refused_or_not_read(model):
    adapter = ReadingAdapter(["blocks.0", "blocks.2"])
    with pytest.raises(InputError, match="behind block 0, which the adapter reads too; start it at block 0 or before"):
        run_from(model, 1, states_into(model, 1), adapter)
    assert not zoo.hook_counts(model)
    later = ReadingAdapter("blocks.0")
    run_from(model, 1, states_into(model, 1), later)
    with pytest.raises(InputError, match="nothing was read"):
        later.reading()
    run_from(model, 0, states_into(model, 0), later)
    torch.testing.assert_close(
        later.reading()["blocks.0"], read(model, zoo.tokens(), ["blocks.0"])["blocks.0"], atol=1e-5, rtol=1e-4
    )


def test_final_norm_of_a_run_from_the_last_block(model):
    adapter = ReadingAdapter("ln_final.hook_normalized")
    run_from(model, 2, states_into(model, 2), adapter)
    wanted = read(model, zoo.tokens(), adapter.sites)
    torch.testing.assert_close(adapter.reading()[adapter.sites[0]], wanted[adapter.sites[0]], atol=1e-5, rtol=1e-4)


def test_words_about_such_a_run_have_no_token():
    class Words:
        def verbalize(self, acts):
            return ["words"] * len(acts)

        def reconstruct(self, texts):
            return torch.ones(len(texts), zoo.D_MODEL)

    model = zoo.bridge("llama") if STARTS else zoo.hooked_twin("llama")
    adapter = VerbalizerAdapter(Words(), "blocks.2.hook_resid_post", -1)
    run_from(model, 2, states_into(model, 2), adapter)
    assert [(row.position, row.token, row.text) for row in adapter.results()] == [(6, None, "words")] * 2
    assert [row.token for row in adapter.results(zoo.tokens())] == [
        model.tokenizer.decode([token]) for token in zoo.tokens()[:, -1].tolist()
    ]


@pytest.mark.parametrize("site", ["blocks.2.hook_resid_post", "blocks.1.attn.head.3", "blocks.1"])
def test_such_a_run_is_steered(model, site):
    """As the whole run is, also behind a whole run of another text, whose changes are none of this one's."""
    adapter = VectorAdapter(SteeringVector(torch.linspace(-1, 2, zoo.D_MODEL).sin(), site), positions=[1, -1])
    states = states_into(model, 1)
    with attach(model, adapter), torch.no_grad():
        wanted = model(zoo.tokens())
        model(zoo.tokens(3, 9, seed=2))
        found = model(states, start_at_layer=1)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert [row.position for row in adapter.results()] == [1, 6, 1, 6, 1, 8, 1, 8, 1, 8, 1, 6, 1, 6]
    with torch.no_grad():
        assert (model(zoo.tokens()) - wanted).abs().max() > 1e-2


def test_a_run_behind_the_steered_site_is_left_alone(model):
    adapter = VectorAdapter(SteeringVector(torch.linspace(-1, 2, zoo.D_MODEL).sin(), "blocks.0.hook_resid_post"))
    states = states_into(model, 2)
    with torch.no_grad():
        plain = model(states.clone(), start_at_layer=2)
        with attach(model, adapter):
            model(zoo.tokens(3, 9))
            assert torch.equal(model(states.clone(), start_at_layer=2), plain)
    assert len(adapter.results()) == 27
