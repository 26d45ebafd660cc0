"""Whatever happens while an adapter is attached, the model is left as found."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import zoo
from tl_nla.adapters import ReadingAdapter, attach
from tl_nla.errors import InputError
from tl_nla.model.hooks import is_bridge

SITES = ["hook_embed", "ln_final.hook_normalized", "blocks.0.hook_resid_pre", "blocks.1.hook_resid_mid", "blocks.1",
         "blocks.2.attn", "blocks.0.mlp", "blocks.1.attn.head.2",
         "blocks.0.hook_resid_post -> blocks.2.hook_resid_mid"]  # fmt: skip
USERS = ["blocks.0.hook_resid_pre", "blocks.2.hook_resid_post"]
POINTS = ["hook_embed", "blocks.0.hook_resid_pre", "blocks.1.hook_mlp_out", "blocks.2.hook_resid_post"]
KINDS = ["bridge", "hooked"] if zoo.HAS_HOOKED_TRANSFORMER else ["bridge"]


class Stop(Exception):
    """Raised by a hook midway."""


def stop_at(calls):
    """A hook that lets ``calls`` forward passes through."""
    count = [0]

    def function(activation, hook):
        count[0] += 1
        if count[0] > calls:
            raise Stop

    return function


@pytest.fixture(scope="module", params=KINDS)
def own_model(request):
    """A model of this file's own, with gradients of an earlier backward pass and mixed train and eval flags."""
    model = (zoo.bridge if request.param == "bridge" else zoo.hooked_twin)("gpt2")
    model(zoo.tokens()).sum().backward()
    model.blocks[0].train()
    next(iter(model.parameters())).requires_grad_(False)
    return model


def fingerprint(model):
    """All that an adapter could disturb: hooks in their order, flags, gradients, weights."""
    hooks = {name: [id(hook) for hook in point.fwd_hooks] for name, point in model.hook_dict.items()}
    flags = [module.training for module in model.modules()]
    gradients = [(p.requires_grad, id(p.grad), p._version) for p in model.parameters()]
    return hooks, zoo.hook_counts(model), flags, gradients


def padded(shape, padding):
    """Tokens whose first row is padded on one side, and their mask (or none)."""
    tokens = zoo.tokens(*shape)
    if padding is None:
        return tokens, None
    mask = torch.ones_like(tokens)
    mask[0, slice(0, shape[1] // 2) if padding == "left" else slice((shape[1] + 1) // 2, None)] = 0
    return tokens, mask


def run(model, adapter, way, tokens, mask, stop):
    """One of the ways in which adapters are used."""
    masked = {} if mask is None else {"attention_mask": mask}
    generation = {"max_new_tokens": 3, "do_sample": False, "stop_at_eos": False, "verbose": False}
    if way == "run_with_hooks":
        model.run_with_hooks(tokens, fwd_hooks=[*adapter.hooks(model), *stop], **masked)
    elif way == "hooks":
        with model.hooks(fwd_hooks=[*adapter.hooks(model), *stop]):
            model(tokens, **masked)
    else:
        with model.hooks(fwd_hooks=stop), attach(model, adapter):
            if way == "attach":
                model(tokens, **masked)
            else:
                model.generate(tokens, use_past_kv_cache=way == "cached", **generation)


@settings(max_examples=30)
@given(
    sites=st.lists(st.sampled_from(SITES), min_size=1, max_size=3),
    positions=st.sampled_from(["all", 0, -1, [0, -1], slice(None, None, 2)]),
    generated=st.sampled_from([True, False, "only"]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6)),
    padding=st.sampled_from([None, "left", "right"]),
    way=st.sampled_from(["attach", "hooks", "run_with_hooks", "cached", "uncached"]),
    point=st.sampled_from(POINTS),
    passes=st.none() | st.integers(0, 2),
)
def test_outputs_hooks_gradients_and_flags_are_as_before(
    own_model, sites, positions, generated, shape, padding, way, point, passes
):
    model, notes = own_model, []
    tokens, mask = padded(shape, padding)
    adapter = ReadingAdapter(sites, positions, generated, mask)
    if way in ("cached", "uncached") and not is_bridge(model):
        model.eval()  # HookedTransformer.generate does so itself and leaves it so
    for name in USERS:
        for number in (0, 1):
            model.hook_dict[name].add_hook(lambda activation, hook, number=number: notes.append(number))
    clean, before = model(tokens), fingerprint(model)
    stop = [] if passes is None else [(point, stop_at(passes))]
    try:
        try:
            run(model, adapter, way, tokens, mask, stop)
        except Stop:
            assert passes is not None
        assert fingerprint(model) == before
        del notes[:]
        again = model(tokens)
        assert torch.equal(again, clean)
        assert again.requires_grad
        assert notes == [0, 1, 0, 1]
    finally:
        model.reset_hooks()
        model.blocks[0].train()


@settings(max_examples=12)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6)),
    new=st.integers(1, 5),
    positions=st.sampled_from(["all", -1, slice(1, None), slice(None, None, 3)]),
    left=st.integers(0, 5),
)
def test_the_cache_changes_no_reading(model, shape, new, positions, left):
    tokens = zoo.tokens(*shape)
    mask = torch.ones_like(tokens)
    mask[0, : min(left, shape[1] - 1)] = 0
    readings = []
    for cache in (True, False):
        adapter = ReadingAdapter(["blocks.2", "blocks.1.attn.head.0"], positions, True, mask)
        with attach(model, adapter):
            model.generate(
                tokens, max_new_tokens=new, do_sample=False, stop_at_eos=False, verbose=False, use_past_kv_cache=cache,
                return_type="tokens",
            )  # fmt: skip
        try:
            readings.append(adapter.reading())
        except InputError:  # a slice from 1 on chooses nothing in texts of one token
            readings.append(None)
    first, second = readings
    assert (first is None) == (second is None)
    if first is None:
        assert positions == slice(1, None)
        assert new == 1
        return
    assert torch.equal(torch.stack([first.batch, first.position]), torch.stack([second.batch, second.position]))
    for site in first.sites:
        torch.testing.assert_close(first[site], second[site], atol=1e-5, rtol=1e-4)
