import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import families, zoo
from tests.attribution.reference import leave_out, left_padded
from tl_nla.attribution import Component, SkipConfig, all_components, skip_effects, skip_logits, skip_measures
from tl_nla.attribution.capture import capture
from tl_nla.attribution.replay import replay, start_of
from tl_nla.errors import InputError
from tl_nla.model.facts import facts_of

KINDS = ("block", "attn", "mlp", "head")


@pytest.fixture(params=["bridge", "hooked"])
def any_model(request, family, get_model):
    return get_model(request.param, family)


def assert_equal_to_the_loop(model, tokens, mask=None, kinds=KINDS, every=1):
    """With every component at each ``every``-th position, another one first for each component."""
    parts = all_components(model, kinds)
    clean = capture(model, tokens, mask)
    fast = [
        facts_of(model).readout.logits(last) for last in replay(clean, [start_of(model, clean, part) for part in parts])
    ]
    smallest_effect = 10.0
    for number, (part, logits) in enumerate(zip(parts, fast, strict=True)):
        for position in range(number % every, tokens.shape[1], every):
            slow = leave_out(model, tokens, part, position, mask)
            keep = clean.valid[:, position]
            assert torch.allclose(logits[keep, position], slow[keep, position], atol=1e-5), (str(part), position)
        smallest_effect = min(smallest_effect, (logits - clean.logits)[clean.valid].abs().max().item())
    assert smallest_effect > 1e-2


def test_every_component_and_position_equals_the_loop(any_model, family):
    # Longer than the sliding window of the families that have one.
    assert_equal_to_the_loop(any_model, zoo.tokens(2, 11), every=1 if family in ("llama", "gemma3") else 3)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_left_padding_equals_the_loop(family, get_model):
    assert_equal_to_the_loop(get_model("bridge", family), *left_padded(), kinds=("block", "head"))


@pytest.mark.parametrize("kind", ["bridge", "hooked"])
def test_public_function_and_chunks_agree(kind, get_model):
    model, tokens = get_model(kind, "llama"), zoo.tokens(2, 9)
    whole = skip_effects(model, tokens, all_components(model, KINDS))
    chunked = skip_effects(model, tokens, all_components(model, KINDS), how=SkipConfig(chunk=2))
    assert torch.allclose(whole.kl, chunked.kl, atol=1e-6)
    clean = model(tokens).log_softmax(-1)
    for part in whole.components:
        logits = skip_logits(model, tokens, str(part))
        changed = logits.log_softmax(-1)
        kl = (clean.exp() * (clean - changed)).sum(-1)
        assert torch.allclose(whole[part], kl, atol=1e-5)
        index = whole.components.index(part)
        assert torch.equal(whole.skipped_top[index], logits.argmax(-1))
        assert torch.equal(whole.flip[index], logits.argmax(-1) != clean.argmax(-1))
        weight = (changed - clean) * ((changed + clean) / 2).exp()
        best = weight.abs().argmax(-1, keepdim=True)
        assert torch.equal(whole.tokens[index, ..., :1], best)
        assert torch.allclose(whole.token_weight[index, ..., :1], weight.gather(-1, best), atol=1e-5)


@pytest.mark.parametrize("size", [1, 30], ids=["loses digits", "overflows"])
def test_a_shift_of_all_logits_changes_no_divergence(size, llama):
    tokens = zoo.tokens(2, 9)
    shifted = zoo.bridge("llama")
    shift = size * torch.randn(shifted.cfg.d_model, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # every state now raises or lowers all logits by the same, each state by another amount
        shifted.original_model.lm_head.weight.add_(shift)
        moved = (shifted(tokens) - llama(tokens)).mean(-1)
    assert float(moved.std()) > 3 * size
    parts = all_components(llama, KINDS)
    expected, found = (skip_effects(model, tokens, parts, targets=tokens.roll(-1, 1)) for model in (llama, shifted))
    torch.testing.assert_close(found.kl, expected.kl, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(found.target_change, expected.target_change, atol=2e-4, rtol=1e-3)


def test_the_targets_log_probability_is_followed(llama):
    tokens = zoo.tokens(2, 9)
    targets = tokens.roll(-1, 1)
    effects = skip_effects(llama, tokens, ["blocks.1.mlp", "blocks.2"], targets=targets)
    clean = llama(tokens).log_softmax(-1)
    for row, part in enumerate(effects.components):
        changed = skip_logits(llama, tokens, part).log_softmax(-1)
        wanted = (changed - clean).gather(-1, targets[..., None])[..., 0]
        assert torch.allclose(effects.target_change[row], wanted, atol=1e-5)
    assert skip_effects(llama, tokens, ["blocks.2"]).target_change is None


def test_everywhere_equals_one_ordinary_run(any_model):
    tokens = zoo.tokens(2, 9)
    for part in all_components(any_model, KINDS):
        ours = skip_logits(any_model, tokens, part, everywhere=True)
        assert torch.allclose(ours, leave_out(any_model, tokens, part, slice(None)), atol=1e-5), str(part)


@pytest.mark.parametrize("shape", [(32,), (2, 9, 32)])
@pytest.mark.parametrize(
    "part", [Component("attn", 1, None, 1), Component("mlp", 0, None, 0), Component("block", 1, None, 1)]
)
def test_replacement_equals_the_loop(llama, part, shape):
    tokens, new = zoo.tokens(2, 9), torch.randn(shape)
    ours = skip_logits(llama, tokens, part, replacement=new)
    for position in range(9):
        slow = leave_out(llama, tokens, part, position, replacement=new.expand(2, 9, 32))
        assert torch.allclose(ours[:, position], slow[:, position], atol=1e-5)


def test_a_head_replaced_by_its_own_write_changes_nothing(llama):
    tokens = zoo.tokens(2, 9)
    with torch.no_grad():
        logits, cache = llama.run_with_cache(tokens, names_filter=["blocks.1.attn.hook_z"])
    own = (cache["blocks.1.attn.hook_z"][:, :, 2] @ llama.blocks[1].attn.W_O[2]).detach()
    ours = skip_logits(llama, tokens, "blocks.1.attn.head.2", replacement=own)
    assert torch.allclose(ours, logits, atol=1e-5)
    assert not torch.allclose(skip_logits(llama, tokens, "blocks.1.attn.head.2"), logits, atol=1e-2)


def test_span_leaves_out_several_blocks(llama):
    tokens = zoo.tokens(2, 9)
    ours = skip_logits(llama, tokens, "blocks.0.hook_resid_post -> blocks.2.hook_resid_pre")
    assert torch.allclose(ours, skip_logits(llama, tokens, "blocks.1"), atol=1e-6)
    both = skip_logits(llama, tokens, "blocks.0.hook_resid_pre -> blocks.1.hook_resid_post")
    for position in (0, 4, 8):
        slow = leave_out(llama, tokens, Component("span", 0, None, 1), position)
        assert torch.allclose(both[:, position], slow[:, position], atol=1e-5)


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 14), st.integers(0, 10_000))
def test_later_tokens_never_matter(batch, pos, seed):
    from tests.fixtures import shared_model

    model = shared_model("bridge", "llama")
    tokens = zoo.tokens(batch, pos, seed)
    longer = torch.cat([tokens, zoo.tokens(batch, 2, seed + 1)], dim=1)
    part = Component("head", seed % zoo.N_LAYERS, seed % zoo.N_HEADS, seed % zoo.N_LAYERS)
    assert torch.allclose(skip_logits(model, longer, part)[:, :pos], skip_logits(model, tokens, part), atol=1e-5)


def test_percentiles_rank_within_the_layer(llama):
    effects = skip_effects(llama, zoo.tokens(2, 8), all_components(llama, ("head", "mlp")))
    layer = [i for i, part in enumerate(effects.components) if part.kind == "head" and part.layer == 1]
    kl, percentile = effects.kl[layer].flatten(), effects.percentile[layer].flatten()
    slow = torch.tensor([(kl < x).sum() + 0.5 * (kl == x).sum() for x in kl]) * 100 / len(kl)
    assert torch.allclose(percentile, slow)


def test_padding_is_marked(llama):
    tokens, mask = left_padded()
    effects = skip_effects(llama, tokens, attention_mask=mask)
    assert torch.equal(effects.kl.isnan(), (mask == 0).expand_as(effects.kl))
    assert torch.equal(effects.percentile.isnan(), effects.kl.isnan())
    assert not effects.flip[:, mask == 0].any()
    alone = skip_effects(llama, tokens[1:])
    assert torch.allclose(effects.kl[:, 1], alone.kl[:, 0], atol=1e-5)


def test_padding_says_nothing_of_what_a_hooked_model_looks_at():
    model = zoo.bridge("llama")
    model.blocks[0].register_forward_hook(lambda block, args, output: None)
    tokens, mask = left_padded()
    found = skip_effects(model, tokens, ["blocks.1"], attention_mask=mask)
    assert torch.equal(found.kl.isnan(), (mask == 0).expand_as(found.kl))


def test_the_model_and_its_hooks_stay_as_they_were(llama):
    tokens, calls = zoo.tokens(1, 6), []
    before = llama(tokens)
    llama.add_hook("blocks.1.hook_mlp_out", lambda value, hook: calls.append(len(value)))
    try:
        counts = zoo.hook_counts(llama)
        skip_effects(llama, tokens, all_components(llama, KINDS))
        assert zoo.hook_counts(llama) == counts
        assert calls
    finally:
        llama.reset_hooks()
    assert torch.equal(llama(tokens), before)
    assert all(parameter.grad is None for parameter in llama.parameters())


def test_the_steering_of_the_user_is_part_of_the_model(llama):
    tokens, vector = zoo.tokens(1, 6), torch.randn(zoo.D_MODEL)
    part = Component("attn", 1, None, 1)
    steer = ("blocks.1.hook_resid_pre", lambda value, hook: value + vector)
    with llama.hooks(fwd_hooks=[steer]):
        steered = skip_logits(llama, tokens, part)
        slow = leave_out(llama, tokens, part, 5)
    assert torch.allclose(steered[:, 5], slow[:, 5], atol=1e-5)
    assert not torch.allclose(steered, skip_logits(llama, tokens, part), atol=1e-2)


def test_a_failing_hook_leaves_nothing_behind(llama):
    counts = zoo.hook_counts(llama)
    clean = capture(llama, zoo.tokens(1, 6))

    def fail(value, hook):
        raise RuntimeError("stop")

    with llama.hooks(fwd_hooks=[("blocks.2.attn.hook_z", fail)]), pytest.raises(RuntimeError, match="stop"):
        replay(clean, [start_of(llama, clean, Component("block", 0, None, 0))])
    assert zoo.hook_counts(llama) == counts


@pytest.mark.parametrize("family", ["gptj", "gpt_neo", "opt", "bloom", "qwen3_next", "lfm2", "mamba2", "gemma4"])
def test_where_the_past_cannot_be_shown_each_position_is_run_by_itself(family):
    model, tokens = families.bridge(family), zoo.tokens(2, 5)
    for part in all_components(model, ("block", "attn", "mixer", "mlp", "ple"))[-5:]:
        ours = skip_logits(model, tokens, part)
        for position in (0, 3, 4):
            slow = leave_out(model, tokens, part, position)
            assert torch.allclose(ours[:, position], slow[:, position], atol=1e-4), (str(part), position)


def test_an_attention_that_hooks_change_is_run_by_itself():
    model, tokens = zoo.bridge("llama"), zoo.tokens(1, 6)
    for block in model.blocks:  # scores that nothing seen at the query and key explains
        block.attn.hook_attn_scores.add_hook(lambda value, hook: value + torch.arange(value.shape[-1]).to(value))
    part = Component("block", 0, None, 0)
    ours = skip_logits(model, tokens, "blocks.0")
    assert torch.allclose(ours[:, 4], leave_out(model, tokens, part, 4)[:, 4], atol=1e-5)


def test_leaving_out_everywhere_where_hooks_are_read_only():
    config = transformers.GPTNeoConfig(
        vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=48, max_position_embeddings=64,
        attention_types=[[["global"], 2]], resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    config.architectures = ["GPTNeoForCausalLM"]
    model = zoo.bridge(zoo.randomise(transformers.GPTNeoForCausalLM(config)))
    tokens, part = zoo.tokens(1, 6), Component("mlp", 0, None, 0)
    ours = skip_logits(model, tokens, part, everywhere=True)
    assert torch.allclose(ours, leave_out(model, tokens, part, slice(None)), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"component": "blocks.9"}, "3 layers"),
        ({"component": "blocks.0.attn.head.9"}, "4 heads"),
        ({"component": "blocks.0.hook_resid_post"}, "unknown component"),
        ({"component": "blocks.2.hook_resid_pre -> blocks.1.hook_resid_post"}, "runs backwards"),
        ({"component": "blocks.1.hook_resid_mid -> blocks.1.hook_resid_post"}, "cannot be left out"),
        ({"replacement": torch.zeros(7)}, "does not broadcast"),
        ({"replacement": torch.full((32,), float("nan"))}, "NaN"),
        ({"tokens": torch.zeros(0, 3, dtype=torch.long)}, "non-empty"),
        ({"tokens": torch.zeros(1, 3, dtype=torch.long), "attention_mask": torch.zeros(1, 3, dtype=torch.long)}, "row"),
    ],
)
def test_bad_input_is_one_clear_line(llama, arguments, message):
    settings = {"tokens": zoo.tokens(1, 6), "component": "blocks.0", **arguments}
    with pytest.raises(InputError, match=message) as caught:
        skip_logits(llama, settings.pop("tokens"), settings.pop("component"), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("unchecked")
def test_a_mask_of_another_shape_is_refused(llama):
    with pytest.raises(InputError, match="shape of the tokens"):
        capture(llama, zoo.tokens(2, 3), torch.ones(2, 4, dtype=torch.long))


def test_effects_refuse_bad_settings(llama):
    tokens = zoo.tokens(1, 6)
    with pytest.raises(InputError, match="no component"):
        skip_effects(llama, tokens, [])
    with pytest.raises(InputError, match="top_k"):
        skip_effects(llama, tokens, how=SkipConfig(top_k=zoo.VOCAB + 1))
    with pytest.raises(InputError, match="top_k"):
        SkipConfig(top_k=0)
    with pytest.raises(InputError, match="chunk"):
        SkipConfig(chunk=0)
    with pytest.raises(InputError, match="targets is 64; allowed: token ids from 0 to 63"):
        skip_effects(llama, tokens, targets=torch.full_like(tokens, zoo.VOCAB))
    with pytest.raises(InputError, match="not among"):
        skip_effects(llama, tokens, ["blocks.0"], how=SkipConfig({"blocks.1": torch.zeros(32)}))
    with pytest.raises(InputError, match="no effect"):
        skip_effects(llama, tokens, ["blocks.0"])["blocks.1"]


def test_a_head_cannot_be_replaced_behind_a_post_norm(get_model):
    with pytest.raises(InputError, match="normalises the sum"):
        skip_logits(
            get_model("bridge", "gemma2"), zoo.tokens(1, 6), "blocks.0.attn.head.1", replacement=torch.zeros(32)
        )


def test_dropout_is_refused():
    model = zoo.bridge("gpt2", resid_pdrop=0.1)
    model.train()
    with pytest.raises(InputError, match="eval"):
        skip_logits(model, zoo.tokens(1, 6), "blocks.0")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_divergences_of_logits_in_half_precision(dtype):
    """Small and large changes, none, and one too large for an exponential, beside the plain formula in float64."""
    draw = torch.Generator().manual_seed(0)
    clean = (3 * torch.randn(1, 2, 5000, generator=draw)).to(dtype)
    changed = clean[None].repeat(6, 1, 1, 1).float()
    for row, size in enumerate((0.0, 0.03, 1.0, 6.0)):
        changed[row] += size * torch.randn(1, 2, 5000, generator=draw)
    changed[4] += 20.0  # all logits alike: a small divergence that comes of rounding alone
    changed[5, ..., :7] += 300.0
    changed = changed.to(dtype)
    old = skip_measures._Old.of(clean.float(), clean.argmax(-1))
    found = skip_measures._compare(old, changed, 3)
    log_p, log_q = clean.double().log_softmax(-1), changed.double().log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    torch.testing.assert_close(found["kl"].double(), kl, atol=1e-5, rtol=1e-5)
    assert not found["kl"][0].any()
    top = clean.argmax(-1)[None, ..., None].expand(6, 1, 2, 1)
    change = (log_q - log_p).gather(-1, top)[..., 0]
    torch.testing.assert_close(found["change"].double(), change, atol=1e-4, rtol=1e-5)
    assert torch.equal(found["top"], changed.argmax(-1))
