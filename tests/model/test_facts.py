import copy

import pytest
import torch

from tests import families, zoo
from tl_nla.errors import InputError
from tl_nla.model import facts as module
from tl_nla.model.facts import block_form, branches_of, facts_of, numbers


@pytest.fixture
def runs(monkeypatch):
    """How often the model was probed."""
    seen, plain = [], module.probe

    def counted(model):
        seen.append(model)
        return plain(model)

    monkeypatch.setattr(module, "probe", counted)
    return seen


def test_facts_are_found_once(runs):
    model = zoo.bridge("llama", with_tokenizer=False)
    assert facts_of(model) is facts_of(model)
    model(zoo.tokens())
    facts_of(model)
    assert len(runs) == 1


def test_facts_are_found_again_in_another_precision(runs):
    model = zoo.bridge("llama", with_tokenizer=False)
    before = facts_of(model)
    model.to(torch.bfloat16)
    after = facts_of(model)
    assert len(runs) == 2
    assert after.readout.norm.fit.exact
    assert all(form.kinds == ("attn", "mlp") for form in after.blocks)
    rounded = before.readout.norm.gain.to(torch.bfloat16).float()
    torch.testing.assert_close(after.readout.norm.gain, rounded)
    assert not torch.equal(after.readout.norm.gain, before.readout.norm.gain)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_facts_are_found_again_in_compatibility_mode(family, runs):
    def read_by_tokens():
        found = facts_of(model).readout
        rows = found.rows(torch.arange(5)) * found.norm.gain
        rows = rows - rows.mean(-1, keepdim=True) if found.norm.centred else rows
        return rows - rows[:1]

    model = zoo.bridge(family)
    before = read_by_tokens()
    model.enable_compatibility_mode()
    # The gain is folded into the unembedding, so a difference of logits reads what it read before.
    torch.testing.assert_close(read_by_tokens(), before, atol=1e-4, rtol=1e-4)
    assert len(runs) == 2
    assert facts_of(model).readout.norm.fit.exact
    assert facts_of(model).readout.fit.exact


def test_facts_are_found_again_when_the_final_gain_is_changed_in_place(runs):
    model = zoo.bridge("llama", with_tokenizer=False)
    before = facts_of(model).readout.norm.gain.clone()
    with torch.no_grad():
        model.ln_final.original_component.weight.mul_(1.5)
    after = facts_of(model)
    assert len(runs) == 2
    torch.testing.assert_close(after.readout.norm.gain, 1.5 * before)


def test_hooks_of_the_user_do_not_fire_and_do_not_count(runs):
    model, notes = zoo.bridge("llama", with_tokenizer=False), []
    for name in ("blocks.1.hook_resid_post", "blocks.0.hook_attn_out", "ln_final.hook_out"):
        model.hook_dict[name].add_hook(lambda value, hook: notes.append(hook) or 3 * value)
    found = facts_of(model)
    assert len(runs) == 1
    assert notes == []
    assert found.readout.norm.fit.exact
    assert all(form.fit.exact for form in found.blocks)
    assert sum(zoo.hook_counts(model).values()) >= 3


def test_a_model_that_drops_out_at_random_is_refused():
    model = zoo.bridge("gpt2", with_tokenizer=False, resid_pdrop=0.1)
    facts_of(model)
    trained = zoo.bridge("gpt2", with_tokenizer=False, resid_pdrop=0.1).train()
    with pytest.raises(InputError, match=r"call model.eval\(\) first"):
        facts_of(trained)


def test_what_is_no_model_of_transformer_lens_is_refused(get_model):
    with pytest.raises(InputError, match="has no cfg: give a HookedTransformer or TransformerBridge"):
        facts_of(get_model("hf", "gpt2"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "kinds"), [("gemma4", ("attn", "mlp", "ple")), ("phi", ("attn", "mlp"))])
def test_carries_and_parts_of_families(family, kinds, dtype):
    model = families.bridge(family, dtype)
    for form in facts_of(model).blocks:
        assert form.kinds == kinds
        assert form.carry == float(getattr(model.blocks[form.layer].original_component, "layer_scalar", 1.0))
        assert all(branch.factor == 1.0 for branch in form.branches)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_residual_multiplier_counts_wherever_it_is_shown(dtype):
    model, kept = families.bridge("granite", dtype), {}
    layer = model.blocks[1].attn.o.original_component
    handle = layer.register_forward_hook(lambda module, given, out: kept.update(out=out.detach().float()))
    values, _ = module.probe(model)
    handle.remove()
    write = facts_of(model).blocks[1].write("attn", values).float()
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(write, 0.6 * kept["out"], atol=1e-6, rtol=2 * step)


def test_what_a_block_lacks_is_told_by_what_it_has():
    model = families.bridge("qwen3_next")
    with pytest.raises(InputError, match=r"blocks.0 of this model has no part 'attn'; it has 'blocks.0.mixer', "):
        branches_of(model, 0, "attn")
    model = families.bridge("openai_gpt")
    with pytest.raises(InputError, match=r"is not a sum of its input and of parts .* 'blocks.0' or its states instead"):
        block_form(model, 0)


def test_numbers_are_those_of_the_configuration_that_may_multiply():
    assert {0.6, 3.0, 0.3, 2.5} <= set(numbers(families.bridge("granite")))
    config = copy.copy(families.bridge("llama").original_model.config)
    assert not hasattr(config, "residual_multiplier")
