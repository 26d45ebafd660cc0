"""Reading against full caches and slow references, for every family, on both model classes, under padding."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.model.reading import read

HEADS = [f"blocks.1.attn.head.{head}" for head in range(zoo.N_HEADS)]
STATES = ["hook_embed", "ln_final.hook_normalized"] + [
    f"blocks.{layer}.hook_resid_{place}" for layer in range(zoo.N_LAYERS) for place in ("pre", "mid", "post")
]
WRITES = [f"blocks.{layer}{part}" for layer in range(zoo.N_LAYERS) for part in ("", ".attn", ".mlp")]
SPAN = "blocks.0.hook_resid_post -> blocks.2.hook_resid_post"
TWINS = [family for family in zoo.TWIN_FAMILIES if zoo.HAS_HOOKED_TRANSFORMER]
ALL = [("bridge", family) for family in zoo.FAMILIES] + [("hooked", family) for family in TWINS]


@pytest.fixture(params=ALL, ids="-".join)
def any_model(request, get_model):
    return get_model(*request.param)


def has_middle(model):
    return "blocks.0.hook_resid_mid" in model.hook_dict


def sites_of(model):
    return [site for site in [*STATES, *WRITES, *HEADS, SPAN] if has_middle(model) or "resid_mid" not in site]


def close(left, right):
    torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def reference(model, tokens):
    """Every site from a full cache, ``[batch, pos, d_model]``, heads by dividing what arrives by what was sent."""
    _, cache = model.run_with_cache(tokens)
    values = {name: cache[name] for name in STATES if has_middle(model) or "resid_mid" not in name}
    for layer in range(zoo.N_LAYERS):
        name = f"blocks.{layer}"
        values[f"{name}.attn"], values[f"{name}.mlp"] = cache[f"{name}.hook_attn_out"], cache[f"{name}.hook_mlp_out"]
        values[name] = cache[f"{name}.hook_resid_post"] - cache[f"{name}.hook_resid_pre"]
    values[SPAN] = cache["blocks.2.hook_resid_post"] - cache["blocks.0.hook_resid_post"]
    attention = model.blocks[1].attn
    sent = [cache["blocks.1.attn.hook_z"][:, :, head] @ attention.W_O[head] for head in range(zoo.N_HEADS)]
    bias = getattr(attention, "b_O", None)
    total = sum(sent) + (0 if bias is None else bias)
    for head, site in enumerate(HEADS):
        values[site] = sent[head] * (values["blocks.1.attn"] / total)
    return values


def test_every_site_equals_the_full_cache(any_model):
    tokens = zoo.tokens(2, 7)
    reading, expected = read(any_model, tokens, sites_of(any_model)), reference(any_model, tokens)
    assert len(reading) == 14
    for site in sites_of(any_model):
        assert not reading[site].requires_grad
        # Dividing by a sum that happens to be small costs digits of the reference.
        tolerance = {"atol": 2e-4, "rtol": 1e-3} if "head" in site else {"atol": 1e-5, "rtol": 1e-4}
        torch.testing.assert_close(reading[site], expected[site].flatten(0, 1), **tolerance)


def test_writes_add_up(any_model):
    reading = read(any_model, zoo.tokens(2, 7), sites_of(any_model))
    for layer in range(zoo.N_LAYERS):
        block = reading[f"blocks.{layer}"]
        close(reading[f"blocks.{layer}.attn"] + reading[f"blocks.{layer}.mlp"], block)
        close(reading.before(f"blocks.{layer}") + block, reading[f"blocks.{layer}.hook_resid_post"])
        middle = f"blocks.{layer}.hook_resid_mid" if has_middle(any_model) else f"blocks.{layer}.hook_resid_pre"
        close(reading.before(f"blocks.{layer}.mlp"), reading[middle])
    close(reading.before(SPAN) + reading[SPAN], reading["blocks.2.hook_resid_post"])
    heads = reading.heads(1)
    for head, site in enumerate(HEADS):
        close(heads[:, head], reading[site])
    if getattr(any_model.blocks[1].attn, "b_O", None) is None:
        close(heads.sum(1), reading["blocks.1.attn"])


@pytest.mark.parametrize("family", zoo.POST_NORM_FAMILIES)
def test_post_norms_are_not_left_out(get_model, family):
    """The raw head writes differ from what reaches the residual stream, so a missing factor would be seen."""
    model, tokens = get_model("bridge", family), zoo.tokens(2, 7)
    _, cache = model.run_with_cache(tokens)
    raw = torch.einsum("bphd,hdm->bphm", cache["blocks.1.attn.hook_z"], model.blocks[1].attn.W_O).flatten(0, 1)
    heads = read(model, tokens, HEADS).heads(1)
    assert (raw.sum(1) - cache["blocks.1.hook_attn_out"].flatten(0, 1)).abs().max() > 0.1
    close(heads.sum(1), cache["blocks.1.hook_attn_out"].flatten(0, 1))


@pytest.mark.parametrize("family", TWINS)
def test_hooked_transformer_reads_as_the_bridge_of_the_same_weights(get_model, family):
    models = [get_model(kind, family) for kind in ("bridge", "hooked")]
    sites = [site for site in sites_of(models[0]) if all(has_middle(model) or "mid" not in site for model in models)]
    bridge, hooked = (read(model, zoo.tokens(3, 9), sites, [0, 4, -1]) for model in models)
    for site in sites:
        torch.testing.assert_close(bridge[site], hooked[site], atol=2e-4, rtol=2e-3)
    if has_middle(models[0]) == has_middle(models[1]):
        for site in [*WRITES, *HEADS]:
            torch.testing.assert_close(bridge.before(site), hooked.before(site), atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(any_model, side):
    lengths, tokens = [4, 7, 1], zoo.tokens(3, 7)
    mask = torch.zeros_like(tokens)
    padded = torch.zeros_like(tokens)
    for row, length in enumerate(lengths):
        place = slice(7 - length, 7) if side == "left" else slice(0, length)
        mask[row, place], padded[row, place] = 1, tokens[row, :length]
    sites = [site for site in sites_of(any_model) if site != "hook_embed"]
    together = read(any_model, padded, sites, "all", mask)
    assert together.position.tolist() == [number for length in lengths for number in range(length)]
    assert torch.equal(
        padded[together.batch, together.column], torch.cat([tokens[r, :n] for r, n in enumerate(lengths)])
    )
    for row, length in enumerate(lengths):
        alone = read(any_model, tokens[row : row + 1, :length], sites)
        for site in sites:
            torch.testing.assert_close(together[site][together.batch == row], alone[site], atol=1e-4, rtol=1e-3)


def test_one_forward_pass_that_stops_after_the_last_layer_needed(model):
    runs = {f"blocks.{layer}.hook_attn_out": 0 for layer in range(zoo.N_LAYERS)}

    def count(name):
        def function(activation, hook):
            runs[name] += 1

        return function

    with model.hooks(fwd_hooks=[(name, count(name)) for name in runs]):
        for sites, expected in (
            ([*WRITES, *HEADS, *STATES], [1, 1, 1]),
            (["blocks.1", *HEADS, "hook_embed", "blocks.0.mlp"], [1, 1, 0]),
            (["hook_embed"], [1, 0, 0]),
            (["blocks.0.hook_resid_pre -> blocks.1.hook_resid_mid"], [1, 1, 0]),
        ):
            runs.update(dict.fromkeys(runs, 0))
            read(model, zoo.tokens(), sites)
            assert list(runs.values()) == expected


def test_only_chosen_positions_are_kept(model):
    reading = read(model, zoo.tokens(3, 7), [*HEADS, "blocks.2"], [1, -1])
    assert {len(value) for value in reading.values.values()} == {6}
    assert reading.batch.tolist() == [0, 0, 1, 1, 2, 2]
    assert reading.position.tolist() == [1, 6] * 3
    everything = read(model, zoo.tokens(3, 7), [*HEADS, "blocks.2"])
    for site in reading.sites:
        # Not bit-equal: the matrix product of a head's few rows may be summed in another order.
        chosen = everything[site].reshape(3, 7, -1)[:, [1, 6]].flatten(0, 1)
        torch.testing.assert_close(reading[site], chosen, rtol=1e-5, atol=1e-6)
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in reading.values.values())


def test_token_strings(model):
    tokens = torch.tensor([[5, 6, 5, 7]])
    assert read(model, tokens, ["blocks.0"], "w5").position.tolist() == [0, 2]


def test_low_precision_keeps_its_dtype():
    for family in ("llama", "gemma3"):
        model = zoo.bridge(zoo.hf_model(family).bfloat16())
        reading = read(model, zoo.tokens(), sites_of(model))
        assert {reading[site].dtype for site in (*WRITES, *HEADS, SPAN)} == {torch.bfloat16}
        total, write = reading.heads(1).float().sum(1), reading["blocks.1.attn"].float()
        assert (total - write).abs().max() < 0.05 * write.abs().max()


def test_heads_behind_an_unknown_multiplier_are_refused():
    model = zoo.bridge("llama")
    model.hook_dict["blocks.1.hook_attn_out"].add_hook(lambda activation, hook: activation * 0.7)
    reading = read(model, zoo.tokens(), [*HEADS, "blocks.1.attn"])
    assert reading["blocks.1.attn"].shape == (14, zoo.D_MODEL)
    with pytest.raises(InputError, match=r"layer 1 do not add up.*read 'blocks.1.attn' instead"):
        reading[HEADS[0]]
    with pytest.raises(InputError, match="do not add up"):
        reading.heads(1)


@pytest.mark.skipif(not zoo.HAS_HOOKED_TRANSFORMER, reason="HookedTransformer left TransformerLens with version 4")
def test_norms_before_and_after_on_a_hooked_transformer():
    settings = {"use_normalization_before_and_after": True, "normalization_type": "RMS", "final_rms": True}
    model = zoo.hooked_transformer(**settings)
    with torch.no_grad():
        model.blocks[1].attn.b_O.zero_()
    reading = read(model, zoo.tokens(), [*HEADS, "blocks.1.attn"])
    close(reading.heads(1).sum(1), reading["blocks.1.attn"])


def test_one_site_needs_no_list(model):
    site = "blocks.1.hook_resid_post"
    assert torch.equal(read(model, zoo.tokens(), site)[site], read(model, zoo.tokens(), [site])[site])


def test_bad_requests_are_refused(model):
    tokens = zoo.tokens()
    for sites, message in (
        ([], "no sites"),
        ("blocks.0.hook_resid_pst", "nearest: blocks.0.hook_resid_post"),
        (["blocks.0.hook_resid_pst"], "nearest"),
        (["blocks.3.mlp"], "out of range"),
        (["blocks.0.attn.head.4"], "out of range"),
    ):
        with pytest.raises(InputError, match=message):
            read(model, tokens, sites)
    with pytest.raises(InputError, match="at least one row"):
        read(model, tokens[:0], ["blocks.0"])
    with pytest.raises(InputError, match="70 tokens, the model's context 64"):
        read(model, zoo.tokens(1, 70), ["blocks.0"])
    with pytest.raises(InputError, match="position 9 is outside"):
        read(model, tokens, ["blocks.0"], 9)
    reading = read(model, tokens, ["blocks.0", "blocks.0.hook_resid_post"])
    with pytest.raises(InputError, match="unknown site of this reading"):
        reading["blocks.1"]
    for text in ("blocks.1", "blocks.0.hook_resid_post"):
        with pytest.raises(InputError, match="unknown write of this reading"):
            reading.before(text)
    with pytest.raises(InputError, match="unknown layer of this reading's heads '0'; allowed: none"):
        reading.heads(0)
    assert not zoo.hook_counts(model)


class Stop(Exception):
    """Raised by a hook midway."""


def state_of(model, users):
    flags = [module.training for module in model.modules()]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    needs = [p.requires_grad for p in model.parameters()]
    lists = {name: list(model.hook_dict[name].fwd_hooks) for name in users}
    return SimpleNamespace(flags=flags, grads=grads, needs=needs, lists=lists, counts=zoo.hook_counts(model))


def same_state(before, after):
    assert before.flags == after.flags
    assert before.needs == after.needs
    assert before.counts == after.counts
    assert before.lists.keys() == after.lists.keys()
    for name, hooks in before.lists.items():
        assert [id(hook) for hook in hooks] == [id(hook) for hook in after.lists[name]]
    for old, new in zip(before.grads, after.grads, strict=True):
        assert (old is None and new is None) or torch.equal(old, new)


@pytest.fixture(scope="module", params=[kind for kind in ("bridge", "hooked") if kind == "bridge" or TWINS])
def own_model(request):
    """A model of this test's own, with gradients of an earlier backward pass and mixed train and eval flags."""
    model = (zoo.bridge if request.param == "bridge" else zoo.hooked_twin)("gpt2")
    model(zoo.tokens()).sum().backward()
    model.blocks[0].train()
    next(iter(model.parameters())).requires_grad_(False)
    return model


@settings(max_examples=30)
@given(
    sites=st.lists(st.sampled_from([*STATES, *WRITES, *HEADS, SPAN]), min_size=1, max_size=4),
    positions=st.sampled_from(["all", -1, 0, slice(0, None, 2), [0, -1]]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 8)),
    padding=st.sampled_from([None, "left", "right"]),
    raises=st.sampled_from([None, "blocks.0.hook_resid_pre", "blocks.0.hook_mlp_out", "hook_embed"]),
)
def test_the_model_is_left_as_found(own_model, sites, positions, shape, padding, raises):
    model, tokens = own_model, zoo.tokens(*shape)
    mask = None
    if padding:
        mask = torch.ones_like(tokens)
        mask[0, slice(0, shape[1] // 2) if padding == "left" else slice((shape[1] + 1) // 2, None)] = 0
    users, notes = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"], []
    for name in users:
        model.hook_dict[name].add_hook(lambda activation, hook: notes.append(1))
    clean, before = model(tokens), state_of(model, users)

    def stop(activation, hook):
        raise Stop

    try:
        if raises is None:
            first = read(model, tokens, sites, positions, mask)
            again = read(model, tokens, sites, positions, mask)
            assert all(torch.equal(first[site], again[site]) for site in sites)
        else:
            with model.hooks(fwd_hooks=[(raises, stop)]), pytest.raises(Stop):
                read(model, tokens, sites, positions, mask)
        same_state(before, state_of(model, users))
        assert torch.equal(model(tokens), clean)
        assert notes
        assert model(tokens).requires_grad
    finally:
        model.reset_hooks()


def test_importing_models_pairs_and_adapters_stays_light():
    heavy = ["lightning", "peft", "tensorboard", "matplotlib", "torchmetrics"]
    ours = "tl_nla, tl_nla.model.reading, tl_nla.nla, tl_nla.adapters"
    code = f"import sys, {ours}; print([n for n in {heavy} if n in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    assert output.stdout.strip() == "[]"
