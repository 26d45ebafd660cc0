import copy

import pytest
import torch

from tests import zoo
from tl_nla.attribution import DirectConfig, direct_attribution
from tl_nla.errors import InputError


@pytest.fixture(params=["bridge", "hooked"])
def any_model(request, family, get_model):
    return get_model(request.param, family)


def uncapped(model, tokens):
    with torch.no_grad():
        name = f"blocks.{zoo.N_LAYERS - 1}.hook_resid_post"
        _, cache = model.run_with_cache(tokens, names_filter=[name])
        return model.unembed(model.ln_final(cache[name]))


@pytest.mark.parametrize("unit", ["component", "layer", "head"])
def test_parts_sum_to_the_logit_in_every_family(any_model, unit):
    tokens = zoo.tokens(2, 7)
    logits = uncapped(any_model, tokens)
    parts = direct_attribution(any_model, tokens, 5, unit=unit)
    assert torch.allclose(parts.values.sum(0), logits[..., 5], atol=1e-4)
    assert torch.allclose(parts.total, logits[..., 5], atol=1e-5)
    difference = direct_attribution(any_model, tokens, 5, against=tokens, unit=unit)
    expected = logits[..., 5] - logits.gather(-1, tokens[..., None])[..., 0]
    assert torch.allclose(difference.values.sum(0), expected, atol=1e-4)


def test_units_agree_and_each_part_is_its_own_write(any_model):
    tokens = zoo.tokens(2, 7)
    by_unit = {u: direct_attribution(any_model, tokens, 5, unit=u) for u in ("component", "layer", "head")}
    for layer in range(zoo.N_LAYERS):
        heads = [by_unit["head"][f"blocks.{layer}.attn.head.{head}"] for head in range(zoo.N_HEADS)]
        heads.append(by_unit["head"][f"blocks.{layer}.attn.bias"])
        attn = by_unit["component"][f"blocks.{layer}.attn"]
        assert torch.allclose(torch.stack(heads).sum(0), attn, atol=1e-4)
        block = by_unit["layer"][f"blocks.{layer}"]
        assert torch.allclose(attn + by_unit["component"][f"blocks.{layer}.mlp"], block, atol=1e-4)


def test_log_probability_is_linearised_at_the_prediction(any_model):
    tokens = zoo.tokens(2, 7)
    if any_model.cfg.output_logits_soft_cap and any_model.cfg.output_logits_soft_cap > 0:
        with pytest.raises(InputError, match="caps its logits"):
            direct_attribution(any_model, tokens, 5, how=DirectConfig("log_prob"))
        return
    log_p = any_model(tokens).log_softmax(-1)
    parts = direct_attribution(any_model, tokens, 5, how=DirectConfig("log_prob"))
    assert torch.allclose(parts.values.sum(0), log_p[..., 5], atol=1e-4)
    # Every token of the vocabulary as a target: one row of the batch for each.
    rows = direct_attribution(any_model, tokens[:1].expand(zoo.VOCAB, -1), torch.arange(zoo.VOCAB)[:, None])
    every = rows["blocks.1.mlp"].T
    expected = every[..., 5] - (log_p[0].exp() * every).sum(-1)
    assert torch.allclose(parts["blocks.1.mlp"][0], expected, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "neox"])
def test_agrees_with_transformer_lens_on_a_copy(family, get_model):
    analysis = pytest.importorskip("transformer_lens.tools.analysis")
    tokens = zoo.tokens(2, 7)
    folded = zoo.bridge(family)  # a model of its own: compatibility mode rewrites weights
    folded.enable_compatibility_mode()
    theirs = analysis.direct_logit_attribution(folded, tokens, 5, 9, unit="component", pos=None)
    ours = direct_attribution(folded, tokens, 5, against=9)
    mapped = {label: value for label, value in zip(theirs.labels, theirs.attribution, strict=True)}
    embed = sum(mapped[label] for label in ("embed", "pos_embed") if label in mapped)
    assert torch.allclose(ours["embed"], embed, atol=1e-5)
    raw = direct_attribution(get_model("bridge", family), tokens, 5, against=9)
    for layer in range(zoo.N_LAYERS):
        for part in ("attn", "mlp"):
            assert torch.allclose(ours[f"blocks.{layer}.{part}"], mapped[f"{layer}_{part}_out"], atol=1e-5)
            # Folding changes no difference of logits, so the model as the user has it gives the same numbers.
            assert torch.allclose(raw[f"blocks.{layer}.{part}"], mapped[f"{layer}_{part}_out"], atol=1e-4)


def test_bad_requests_are_refused(llama):
    tokens = zoo.tokens(1, 5)
    for settings, message in [
        ({"unit": "neuron"}, "unknown unit"),
        ({"how": DirectConfig("rank")}, "unknown quantity"),
        ({"how": DirectConfig("difference")}, "against"),
        ({"target": zoo.VOCAB}, "target is 64; allowed: token ids from 0 to 63"),
        ({"target": True}, "target is True"),
        ({"against": -1}, "against is -1"),
        ({"against": 5}, "the same token at every position"),
        ({"target": torch.zeros(9, dtype=torch.long)}, "broadcast"),
    ]:
        arguments = {"target": 5, **settings}
        with pytest.raises(InputError, match=message):
            direct_attribution(llama, tokens, **arguments)
    with pytest.raises(InputError, match="unknown part"):
        direct_attribution(llama, tokens, 5)["blocks.7.attn"]


def test_the_model_is_left_alone(any_model):
    tokens, mode = zoo.tokens(1, 5), copy.copy(getattr(any_model, "compatibility_mode", None))
    before = any_model(tokens)
    direct_attribution(any_model, tokens, 5, unit="head")
    assert torch.equal(any_model(tokens), before)
    assert getattr(any_model, "compatibility_mode", None) == mode
