"""Activation oracles give what their recipe gives: several positions, layers in the prompt, norm-matched addition."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import tl_nla
from tests.nla.formats import reference
from tl_nla.errors import InputError
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.nla.activation_oracle import ActivationOracle, Asking
from tl_nla.nla.formats.testing import write_activation_oracle

pytest.importorskip("peft")
QUESTION = "Is it so ?"  # holds the slot's own text


@pytest.fixture(scope="module")
def states():
    return 20 * torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def one(request, tmp_path_factory):
    written = write_activation_oracle(tmp_path_factory.mktemp("ao"), kind=request.param)
    model = reference.with_adapters(written.base, written.folder)
    return written, ActivationOracle.from_pretrained(written.folder), model, reference.tokenizer_of(written.base)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    written = write_activation_oracle(tmp_path_factory.mktemp("mlao"), "several", steering_coefficient=2.0)
    model = reference.with_adapters(written.base, written.folder)
    return written, ActivationOracle.from_pretrained(written.folder), model, reference.tokenizer_of(written.base)


def rendered(tokenizer, message):
    chat = [{"role": "user", "content": message}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    return tokenizer.encode(text, add_special_tokens=False)


def rows_of(ids, slot, count, rows):
    """The first ``rows`` places where the slot stands ``count`` times in a row."""
    found, place = [], 0
    while len(found) < rows:
        if ids[place : place + count] == [slot] * count:
            found.append(list(range(place, place + count)))
            place += count
        place += 1
    return [place for row in found for place in row]


def test_prompt_of_several_positions(one):
    _, oracle, _, tokenizer = one
    prompt = oracle.prompt_for(QUESTION, 2, 3)
    assert prompt.ids == rendered(tokenizer, f"Layer: 2\n ? ? ? \n{QUESTION}")
    slot = tokenizer.encode(" ?", add_special_tokens=False)
    assert len(slot) == 1
    assert prompt.places == rows_of(prompt.ids, slot[0], 3, 1)


def test_prompt_of_several_layers(several):
    _, oracle, _, tokenizer = several
    prompt = oracle.prompt_for("Why?", (0, 2), 2)
    assert prompt.ids == rendered(tokenizer, "Layer: 0\n ? ? \nLayer: 2\n ? ? \nWhy?")
    slot = tokenizer.encode(" ?", add_special_tokens=False)[0]
    assert prompt.places == rows_of(prompt.ids, slot, 2, 2)
    assert oracle.layers == ((0, 2),)


def hook_of(prompt, vectors, strength=1.0, replace=False):
    return lambda model: reference.adding(model, 1, prompt.places, vectors, replace, strength)


def test_logits_and_words(one, states):
    _, oracle, model, tokenizer = one
    prompt = oracle.prompt_for(QUESTION, 1, 3)
    words = oracle.ask(states, QUESTION, layer=1, asking=Asking(max_new_tokens=8))
    response = [7, 9, 60]
    with torch.no_grad():
        ours = oracle(states, prompt, torch.tensor([response] * 2))
    for row, vectors in enumerate(states):
        hook = hook_of(prompt, vectors)
        expected = reference.logits(model, prompt.ids, response, hook)
        torch.testing.assert_close(ours[row], expected, atol=1e-4, rtol=1e-4)
        ids = reference.greedy(model, prompt.ids, hook, 8, oracle.stop_ids)
        assert words[row] == tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_layers_are_told_in_order_and_the_strength_counts(several, states):
    _, oracle, model, tokenizer = several
    both = states[:, :2]  # one position of each of two layers
    prompt = oracle.prompt_for("Why?", None, 1)
    words = oracle.ask(both[:, :, None], "Why?", asking=Asking(max_new_tokens=8))
    assert words == oracle.ask(list(both), "Why?", (0, 2), Asking(max_new_tokens=8))
    for row, vectors in enumerate(both):
        ids = reference.greedy(model, prompt.ids, hook_of(prompt, vectors, 2.0), 8, oracle.stop_ids)
        assert words[row] == tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_older_oracles_replace(one, states):
    written, _, model, _ = one
    oracle = ActivationOracle.from_pretrained(written.folder, injection=InjectionConfig("norm_matched"))
    prompt = oracle.prompt_for(QUESTION, 1, 3)
    with torch.no_grad():
        ours = oracle(states[:1], prompt, torch.tensor([[7, 9]]))[0]
    hook = hook_of(prompt, states[0], replace=True)
    torch.testing.assert_close(ours, reference.logits(model, prompt.ids, [7, 9], hook), atol=1e-4, rtol=1e-4)


def test_different_numbers_of_positions_in_one_call(one, states):
    _, oracle, _, _ = one
    cap = Asking(max_new_tokens=5)
    ragged = [states[0], states[1, :1], states[1]]
    alone = [oracle.ask([row], "Why?", 1, cap)[0] for row in ragged]
    assert oracle.ask(ragged, "Why?", 1, cap) == alone
    assert oracle.ask(states[:, 0], "Why?", 1, cap) == oracle.ask(states[:, :1], "Why?", 1, cap)


def test_the_untrained_base_is_the_base(one, states):
    written, oracle, _, _ = one
    base, prompt = reference.with_adapters(written.base), oracle.prompt_for("Why?", 1, 3)
    with oracle.untrained(), torch.no_grad():
        ours = oracle(states[:1], prompt, torch.tensor([[7, 9]]))[0]
    expected = reference.logits(base, prompt.ids, [7, 9], hook_of(prompt, states[0]))
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_the_black_box_sees_text_only(one):
    written, oracle, _, tokenizer = one
    base = reference.with_adapters(written.base)
    prompt = torch.tensor([rendered(tokenizer, "A text.\n\nWhy?")])
    out = base.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False,
                        eos_token_id=list(oracle.stop_ids), pad_token_id=0)  # fmt: skip
    expected = tokenizer.decode(out[0, prompt.shape[1] :], skip_special_tokens=True).strip()
    assert oracle.ask_text(["A text."], "Why?", Asking(max_new_tokens=6)) == [expected]


def test_public_name_and_provenance(one):
    written, oracle, _, _ = one
    assert tl_nla.ActivationOracle is ActivationOracle
    assert oracle.provenance["family"] == "activation_oracle"
    assert oracle.provenance["base"] == str(written.base)
    assert not any(parameter.requires_grad for parameter in oracle.parameters())


def test_layers_in_percent_of_the_depth(tmp_path):
    written = write_activation_oracle(
        tmp_path / "ao", act_layer_combinations=None, layer_combinations=[[25], [50], [75]]
    )
    assert ActivationOracle.from_pretrained(written.folder).layers == ((1,), (2,), (3,))


def test_what_cannot_be_asked(one, several, states):
    _, oracle, _, _ = one
    for arguments, match in (
        ((states, "Why?"), "give layer=, .* reads 1, 2"),
        ((states, "Why?", 3), "trained on layers 1, 2, not 3; set any_layer"),
        ((states, None, 1), "no question of its own"),
        ((states[..., :8], "Why?", 1), "shape"),
        ((states[0, 0], "Why?", 1), "shape"),
        ((states[:0], "Why?", 1), "no states"),
        ((states * torch.nan, "Why?", 1), "NaN"),
    ):
        with pytest.raises(InputError, match=match):
            oracle.ask(*arguments)
    with pytest.raises(InputError, match="2 layers are asked about"):
        several[1].ask(states[:, 0], "Why?")


def test_other_layers_on_request(one, states):
    written = one[0]
    oracle = ActivationOracle.from_pretrained(written.folder)
    oracle.any_layer = True
    assert len(oracle.ask(states, "Why?", 3, Asking(max_new_tokens=2))) == 2


# One line each for whatever is wrong.


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return write_activation_oracle(tmp_path_factory.mktemp("template"))


def _edit(name, **changes):
    def damage(folder):
        path = folder / name
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))

    return damage


def _tensors(change):
    def damage(folder):
        path = folder / "adapter_model.safetensors"
        save_file({key: value.contiguous() for key, value in change(load_file(path)).items()}, path)

    return damage


AO = "ao_config.json"
DAMAGES = {
    "no_adapter": (lambda f: (f / "adapter_model.safetensors").unlink(), "no weights at"),
    "no_adapter_settings": (lambda f: (f / "adapter_config.json").unlink(), "the oracle's adapter is missing"),
    "no_configuration": (lambda f: (f / AO).unlink(), "ao_config.json, .* is missing"),
    "no_json": (lambda f: (f / AO).write_text("{"), "cannot be read as JSON"),
    "misspelt_key": (_edit(AO, hook_on_layer=1), "unknown key .*hook_on_layer.*hook_onto_layer"),
    "prompt_of_its_own": (_edit(AO, prefix_template="L{layer}"), "prompt of its own"),
    "hook_that_is_no_block": (_edit(AO, hook_onto_layer="one"), "hook_onto_layer is 'one'"),
    "block_that_is_not_there": (_edit(AO, hook_onto_layer=9), "output of block 9; this model has blocks 0 to 3"),
    "strength": (_edit(AO, steering_coefficient=0.0), "strength 0.0"),
    "no_layers": (_edit(AO, act_layer_combinations=..., layer_combinations=...), "names no layers"),
    "layers_of_another_base": (_edit(AO, act_layer_combinations=[[30]]), "layer 30, its base has layers 0 to 3"),
    "several_layers": (_edit(AO, act_layer_combinations=[[1, 2]]), "how they are told in the prompt is missing"),
    "layers_that_are_none": (_edit(AO, act_layer_combinations=[["x"]]), "must be whole numbers"),
    "slot_of_several_tokens": (_edit(AO, special_token=" ??"), "is 2 tokens of the tokenizer"),
    "base_elsewhere": (_edit("adapter_config.json", base_model_name_or_path="/cluster/base"), "give base="),
    "base_unknown": (_edit("adapter_config.json", base_model_name_or_path=None), "names no base_model"),
    "another_rank": (_edit("adapter_config.json", r=2), "does not fit its base"),
    "another_base": (
        _tensors(lambda t: {k.replace("layers.3", "layers.7"): v for k, v in t.items()}), "have no module"),
    "another_shape": (
        _tensors(lambda t: {k: v[:, :8] if "lora_A" in k else v for k, v in t.items()}), "does not fit its base"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told_in_one_line(template, tmp_path, name):
    damage, match = DAMAGES[name]
    folder = shutil.copytree(template.folder, tmp_path / "oracle")
    damage(folder)
    with pytest.raises(InputError, match=match) as caught:
        ActivationOracle.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_an_oracle_is_no_pair_and_a_pair_no_oracle(template, tmp_path):
    with pytest.raises(InputError, match=r"open it with tl_nla\.ActivationOracle"):
        NLA.from_pretrained(template.folder)
    with pytest.raises(InputError, match=r"plain model is asked with tl_nla\.ActivationOracle.baseline"):
        ActivationOracle.from_pretrained(template.base)
