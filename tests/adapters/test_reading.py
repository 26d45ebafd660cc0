"""Adapters through every way of attaching, in plain runs and while generating."""

import pytest
import torch

from tests import zoo
from tl_nla.adapters import (
    ActivationOracleAdapter,
    DiffAdapter,
    ReadingAdapter,
    SteeringAdapter,
    VerbalizerAdapter,
    attach,
)
from tl_nla.errors import InputError
from tl_nla.model.reading import read

SITES = ["blocks.1.hook_resid_post", "blocks.2.mlp", "blocks.1.attn.head.3", "blocks.1"]
KINDS = [(kind, family) for family in ("gpt2", "llama", "gemma3", "neox") for kind in ("bridge", "hooked")
         if kind == "bridge" or family in zoo.TWIN_FAMILIES]  # fmt: skip


@pytest.fixture(params=KINDS, ids="-".join)
def any_model(request, get_model):
    return get_model(*request.param)


def run_plain(model, tokens, adapter, way):
    if way == "run_with_hooks":
        model.run_with_hooks(tokens, fwd_hooks=adapter.hooks(model))
    elif way == "hooks":
        with model.hooks(fwd_hooks=adapter.hooks(model)):
            model(tokens)
    else:
        with attach(model, adapter) as same:
            assert same is model
            model(tokens)


def generate(model, tokens, cache, new=4, **settings):
    settings = {"do_sample": False, "stop_at_eos": False, "verbose": False, "return_type": "tokens", **settings}
    return model.generate(tokens, max_new_tokens=new, use_past_kv_cache=cache, **settings)


def same(left, right, sites=SITES, atol=1e-5):
    assert torch.equal(left.batch, right.batch)
    assert torch.equal(left.position, right.position)
    for site in sites:
        torch.testing.assert_close(left[site], right[site], atol=atol, rtol=1e-4)


@pytest.mark.parametrize("way", ["run_with_hooks", "hooks", "attach"])
def test_every_way_of_attaching_reads_as_read_does(any_model, way):
    tokens, adapter = zoo.tokens(3, 6), ReadingAdapter(SITES, [0, -2])
    run_plain(any_model, tokens, adapter, way)
    same(adapter.results(), read(any_model, tokens, SITES, [0, -2]), atol=0)
    assert not zoo.hook_counts(any_model)


def test_generation_with_and_without_cache_gives_the_readings_of_the_finished_text(any_model):
    tokens, readings, whole = zoo.tokens(2, 5), {}, None
    for cache in (True, False):
        adapter = ReadingAdapter(SITES)
        with attach(any_model, adapter):
            whole = generate(any_model, tokens, cache)
        readings[cache] = adapter.reading(whole)
    assert len(readings[True]) == 2 * (5 + 4 - 1)
    same(readings[True], readings[False])
    same(readings[True], read(any_model, whole, SITES, slice(0, 8)))


@pytest.mark.parametrize(
    ("positions", "generated", "numbers"),
    [
        ("all", True, list(range(8))),
        ("all", False, list(range(5))),
        ("all", "only", [5, 6, 7]),
        (-1, True, [4]),
        ([0, 6], True, [0, 6]),
        ([-5, 7], True, [0, 7]),
        (slice(3, None), True, [3, 4, 5, 6, 7]),
        (slice(3, None, 2), True, [3, 5, 7]),
        (slice(-2, None), False, [3, 4]),
        (slice(None, -3), True, [0, 1]),
        (torch.tensor([[0, 1, 0, 0, 1]]).bool(), True, [1, 4]),
    ],
)
@pytest.mark.parametrize("cache", [True, False])
def test_positions_over_prompt_and_generated_tokens(model, cache, positions, generated, numbers):
    adapter = ReadingAdapter("blocks.0.mlp", positions, generated)
    with attach(model, adapter):
        generate(model, zoo.tokens(1, 5), cache)
    assert adapter.reading().position.tolist() == numbers


@pytest.mark.parametrize("cache", [True, False])
def test_left_padding_is_neither_read_nor_counted(llama, cache):
    tokens = zoo.tokens(2, 6)
    mask = torch.ones_like(tokens)
    mask[0, :3] = 0
    padded = torch.where(mask.bool(), tokens, 0)
    adapter = ReadingAdapter(SITES, attention_mask=mask)
    with attach(llama, adapter):
        generate(llama, padded, cache, attention_mask=mask)
    reading = adapter.reading()
    alone = ReadingAdapter(SITES)
    with attach(llama, alone):
        generate(llama, tokens[:1, 3:], cache)
    assert reading.position[reading.batch == 0].tolist() == list(range(6))
    for site in SITES:
        torch.testing.assert_close(reading[site][reading.batch == 0], alone.reading()[site], atol=1e-5, rtol=1e-4)


def test_padding_without_a_mask_is_warned_of(llama):
    tokens, mask = zoo.tokens(2, 6), torch.ones(2, 6)
    tokens[1, 4:], mask[1, 4:] = 0, 0
    adapter = ReadingAdapter("blocks.1", positions=-1)
    with attach(llama, adapter):
        llama(tokens)
    for reads in (adapter.results, lambda: read(llama, tokens, "blocks.1", -1)):
        with pytest.warns(UserWarning, match=r"rows \[1\] of the batch seem to be padded"):
            reads()
    read(llama, tokens, "blocks.1", mask.bool())
    adapter.reset()
    adapter.attention_mask = mask
    with attach(llama, adapter):
        llama(tokens, attention_mask=mask)
    assert adapter.results().position.tolist() == [5, 3]


def test_ids_are_seen_on_bridges_and_given_on_hooked_transformers(model):
    adapter = ReadingAdapter("blocks.1")
    with attach(model, adapter):
        whole = generate(model, zoo.tokens(2, 5), True)
    seen = adapter.reading().tokens
    assert torch.equal(seen, whole[:, :-1] if hasattr(model, "original_model") else torch.full((2, 8), -1))
    assert torch.equal(adapter.reading(whole).tokens, whole)
    with pytest.raises(InputError, match="tokens have shape"):
        adapter.reading(whole[:1])


def test_several_texts_number_their_rows_on(model):
    texts = [zoo.tokens(2, 5), zoo.tokens(1, 6, seed=3), zoo.tokens(2, 6, seed=4), zoo.tokens(2, 6, seed=4)]
    adapter = ReadingAdapter(SITES)
    with attach(model, adapter):
        for text in texts:
            model(text)
    reading = adapter.reading()
    assert reading.batch.unique().tolist() == list(range(7))
    last = read(model, texts[3], SITES)
    for first_row in (3, 5):
        rows = (reading.batch >= first_row) & (reading.batch < first_row + 2)
        for site in SITES:
            assert torch.equal(reading[site][rows], last[site])


def test_generating_twice_reads_both(model):
    adapter = ReadingAdapter("blocks.1")
    for cache in (True, False):
        with attach(model, adapter):
            generate(model, zoo.tokens(1, 3), cache)
    assert adapter.reading().batch.tolist() == [0] * 6 + [1] * 6


def test_embedding_and_final_norm(llama):
    adapter = ReadingAdapter(["hook_embed", "ln_final.hook_normalized"])
    with attach(llama, adapter):
        whole = generate(llama, zoo.tokens(1, 4), True)
    same(adapter.reading(), read(llama, whole[:, :-1], adapter.sites), adapter.sites)


def test_what_is_kept_is_a_detached_copy(model):
    adapter, tokens = ReadingAdapter("blocks.0.hook_resid_post"), zoo.tokens()

    def spoil(activation, hook):
        activation.zero_()

    with torch.inference_mode(), attach(model, adapter):
        model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.hook_resid_post", spoil)])
    kept = adapter.reading()["blocks.0.hook_resid_post"]
    assert not kept.requires_grad
    assert not kept.is_inference()
    assert torch.equal(kept, read(model, tokens, ["blocks.0.hook_resid_post"])["blocks.0.hook_resid_post"])


def test_a_pass_that_broke_off_leaves_nothing_and_can_be_run_again(model):
    adapter, tokens = ReadingAdapter(["blocks.0", "blocks.2"]), zoo.tokens(1, 4)

    def fail(activation, hook):
        raise RuntimeError("midway")

    with attach(model, adapter):
        with pytest.raises(RuntimeError, match="midway"):
            model.run_with_hooks(tokens, fwd_hooks=[("blocks.1.hook_resid_pre", fail)])
        with pytest.raises(InputError, match="nothing was read"):
            adapter.reading()
        model(tokens)
    same(adapter.reading(), read(model, tokens, adapter.sites), adapter.sites, atol=0)
    assert not zoo.hook_counts(model)


def test_nested_adapters_and_the_users_hooks(model):
    order, tokens = [], zoo.tokens()
    first, second = ReadingAdapter("blocks.1"), ReadingAdapter("blocks.1.hook_resid_post", -1)
    point = model.hook_dict["blocks.1.hook_resid_post"]

    def add(number):
        def function(activation, hook):
            order.append(number)
            return activation + number

        return function

    point.add_hook(add(1))
    try:
        mine = list(point.fwd_hooks)
        with attach(model, first):
            point.add_hook(add(2))
            with attach(model, second):
                model(tokens)
        assert order == [1, 2]
        assert point.fwd_hooks[0] is mine[0]
        assert len(point.fwd_hooks) == 2
        assert set(zoo.hook_counts(model).values()) == {2}
    finally:
        model.reset_hooks()
    clean = read(model, tokens, ["blocks.1.hook_resid_post"])["blocks.1.hook_resid_post"]
    torch.testing.assert_close(first.reading().values["blocks.1.hook_resid_post"], clean + 1)
    torch.testing.assert_close(second.reading()["blocks.1.hook_resid_post"], clean.reshape(2, 7, -1)[:, -1] + 3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "no sites"),
        (("blocks.0.hook_resid",), "nearest"),
        (("blocks.0", "the"), "no text"),
        (("blocks.0", []), "empty"),
        (("blocks.0", 1.5), "no known kind"),
        (("blocks.0", [1.5]), "no known kind"),
        (("blocks.0", torch.ones(7).bool()), r"a bool mask \[batch, pos\]"),
        ((2,), "a site is int"),
        ((object(), "blocks.0"), "a site is object"),
        (("blocks.0", slice(None, None, -1)), "backwards"),
        (("blocks.0", "all", "never"), "allowed: True, False"),
    ],
)
def test_refusals_when_made(arguments, message):
    with pytest.raises(InputError, match=message):
        ReadingAdapter(*arguments)


@pytest.mark.usefixtures("unchecked")
def test_refusals_on_a_model(model, get_model):
    for site, message in (("blocks.9", "out of range"), ("blocks.0.attn.head.7", "out of range")):
        with pytest.raises(InputError, match=message), attach(model, ReadingAdapter(site)):
            pass
    with pytest.raises(InputError, match="at least one"), attach(model):
        pass
    adapter = ReadingAdapter("blocks.0", [2, 9])
    with pytest.raises(InputError, match="nothing was read"):
        adapter.results()
    with attach(model, adapter):
        model(zoo.tokens())
    with pytest.raises(InputError, match="position 9 was never reached"):
        adapter.results()
    with pytest.raises(InputError, match="another model"):
        adapter.hooks(get_model("bridge", "llama"))
    adapter.reset()
    adapter.hooks(get_model("bridge", "llama"))
    beyond = ReadingAdapter("blocks.0", 500, generated=False)
    with attach(model, beyond):
        model(zoo.tokens())
    with pytest.raises(InputError, match=r"\[500\] were never reached; the longest text read has 7 tokens, and gen"):
        beyond.results()
    masks = (torch.ones(1, 7), [[1] * 7, [1] * 7])
    for bad in (ReadingAdapter("blocks.0", -8), *(ReadingAdapter("blocks.0", attention_mask=mask) for mask in masks)):
        says = r"before the prompt|attention_mask has shape|attention_mask is list; give a tensor"
        with pytest.raises(InputError, match=says), attach(model, bad):
            model(zoo.tokens())
        assert not zoo.hook_counts(model)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_adapter_or_cannot_explain_is_refused_before_anything_is_attached(llama):
    cases = [
        (llama, "TransformerBridge is no adapter"),
        (VerbalizerAdapter("tiny", "blocks.0"), r"str has no verbalize\(\) and can be no NLA here"),
        (DiffAdapter(object(), "blocks.0"), r"object has no explain\(\).*DiffOracle\.from_pretrained"),
        (ActivationOracleAdapter("ao", "blocks.0"), r"str has no ask\(\).*ActivationOracle\.from_pretrained"),
        (SteeringAdapter(None, "blocks.0", str.upper), r"NoneType has no verbalize\(\)"),
    ]
    for wrong, says in cases:
        with pytest.raises(InputError, match=says), attach(llama, wrong):
            pass
        assert not zoo.hook_counts(llama)


@pytest.mark.skipif(not zoo.HAS_HOOKED_TRANSFORMER, reason="HookedTransformer left TransformerLens with version 4")
def test_a_hooked_transformer_passes_no_embedding_while_generating(get_model):
    model, adapter = get_model("hooked", "gpt2"), ReadingAdapter("hook_embed")
    with attach(model, adapter):
        generate(model, zoo.tokens(), True)
    with pytest.raises(InputError, match="passes no hook_embed while it generates"):
        adapter.reading()
