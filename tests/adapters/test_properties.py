"""Whatever happens while an adapter is attached, the model is left as found."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import zoo
from tl_nla.adapters import ReadingAdapter, attach
from tl_nla.errors import InputError

SITES = ["blocks.0.hook_resid_pre", "blocks.1", "blocks.2.attn", "blocks.0.mlp", "blocks.1.attn.head.2",
         "blocks.0.hook_resid_post -> blocks.2.hook_resid_mid"]  # fmt: skip
USERS = ["blocks.0.hook_resid_pre", "blocks.2.hook_resid_post"]


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


@settings(max_examples=25)
@given(
    sites=st.lists(st.sampled_from(SITES), min_size=1, max_size=3),
    positions=st.sampled_from(["all", 0, -1, [0, -1], slice(None, None, 2)]),
    generated=st.sampled_from([True, False, "only"]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6)),
    way=st.sampled_from(["attach", "hooks", "run_with_hooks", "cached", "uncached"]),
    passes=st.none() | st.integers(0, 2),
)
def test_outputs_hooks_gradients_and_flags_are_as_before(model, sites, positions, generated, shape, way, passes):
    tokens, adapter, notes = zoo.tokens(*shape), ReadingAdapter(sites, positions, generated), []
    for name in USERS:
        model.hook_dict[name].add_hook(lambda activation, hook: notes.append(1))
    hooks = {name: [id(hook) for hook in model.hook_dict[name].fwd_hooks] for name in USERS}
    counts, clean = zoo.hook_counts(model), model(tokens)
    flags = [module.training for module in model.modules()]
    needs = [(p.requires_grad, p.grad) for p in model.parameters()]
    stop = [] if passes is None else [("blocks.1.hook_mlp_out", stop_at(passes))]
    generation = {"max_new_tokens": 3, "do_sample": False, "stop_at_eos": False, "verbose": False}
    try:
        try:
            if way == "run_with_hooks":
                model.run_with_hooks(tokens, fwd_hooks=[*adapter.hooks(model), *stop])
            elif way == "hooks":
                with model.hooks(fwd_hooks=[*adapter.hooks(model), *stop]):
                    model(tokens)
            else:
                with model.hooks(fwd_hooks=stop), attach(model, adapter):
                    if way == "attach":
                        model(tokens)
                    else:
                        model.generate(tokens, use_past_kv_cache=way == "cached", **generation)
        except Stop:
            assert passes is not None
        assert {name: [id(hook) for hook in model.hook_dict[name].fwd_hooks] for name in USERS} == hooks
        assert zoo.hook_counts(model) == counts
        assert [module.training for module in model.modules()] == flags
        for parameter, (needed, grad) in zip(model.parameters(), needs, strict=True):
            assert parameter.requires_grad == needed
            assert parameter.grad is grad
        again = model(tokens)
        assert torch.equal(again, clean)
        assert again.requires_grad
        assert notes
    finally:
        model.reset_hooks()


@settings(max_examples=20)
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
