"""Oracle lenses, Transluce's explainers, and models asked without any training."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.nla.formats import reference
from tl_nla.errors import InputError
from tl_nla.nla.activation_oracle import ActivationOracle, Asking
from tl_nla.nla.formats.testing import write_oracle_lens, write_transluce
from tl_nla.nla.formats.testing.oracles import LENS_TEMPLATE
from tl_nla.nla.formats.testing.tiny import MARKER

pytest.importorskip("peft")
CAP = Asking(max_new_tokens=6)


@pytest.fixture(scope="module")
def states():
    return 20 * torch.randn(2, 32, generator=torch.Generator().manual_seed(2))


def embedding_hook(places, vectors):
    """The embeddings at some places replaced in the pass over the prompt."""

    def put(model):
        def hook(_module, _args, output):
            if output.shape[1] < 2:
                return output
            changed = output.clone()
            for place, vector in zip(places, vectors, strict=True):
                changed[0, place] = vector
            return changed

        return model.get_input_embeddings().register_forward_hook(hook)

    return put


def same_words(oracle, model, prompt, hook, found):
    ids = reference.greedy(model, prompt.ids, hook, 6, oracle.stop_ids)
    return found == oracle.tokenizer.decode(ids, skip_special_tokens=True).strip()


@pytest.fixture(scope="module")
def lens(tmp_path_factory):
    written = write_oracle_lens(tmp_path_factory.mktemp("lens"))
    return written, ActivationOracle.from_pretrained(written.folder)


def test_lens_tells_the_layer_and_scales_the_vector(lens, states):
    written, oracle = lens
    prompt = oracle.prompt_for(layer=3)
    told = {"prompt_templates": {"actor": LENS_TEMPLATE.replace("layer 20", "layer 3")},
            "tokens": {"injection_char": MARKER}}  # fmt: skip
    assert prompt.ids == reference.prompt_ids(oracle.tokenizer, told)
    marker = oracle.tokenizer.encode(MARKER, add_special_tokens=False)
    assert prompt.places == [place for place, token in enumerate(prompt.ids) if [token] == marker]
    model = reference.with_adapters(written.base, written.folder)
    for state, words in zip(states, oracle.ask(states, layer=3, asking=CAP), strict=True):
        assert same_words(oracle, model, prompt, embedding_hook(prompt.places, [16 * state / state.norm()]), words)


def test_lens_answers_are_its_bullets(lens):
    answers = lens[1].protocol.answers
    assert answers.extract("Here:\n- one\n * two \nend\n- three") == "one\ntwo\nthree"
    assert answers.extract("nothing") is None


def test_lens_has_one_question_and_its_own_layers(lens, states):
    _, oracle = lens
    with pytest.raises(InputError, match="one question of its own"):
        oracle.ask(states, "Why?", 1)
    with pytest.raises(InputError, match="trained on layers 1, 2, 3, not 0"):
        oracle.ask(states, layer=0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"transform": "wht_unit"}, "transform is 'wht_unit'; known here are raw, unit"),
        ({"transform": ["unit"]}, "transform is"),
        ({"alpha": None}, "alpha is None"),
        ({"alpha": -1}, "alpha is -1"),
        ({"layers": "all"}, "layers are 'all'"),
        ({"layers": [77]}, "layer 77, its base has layers 0 to 3"),
        ({"extra": {"prompt": "No marker, layer {layer}"}}, "1 layers and 0 markers"),
        ({"extra": {"prompt": "{injection_char} and no number"}}, "0 layers and 1 markers"),
    ],
)
def test_lens_that_cannot_be_read(tmp_path, settings, match):
    written = write_oracle_lens(tmp_path / "lens", **settings)
    with pytest.raises(InputError, match=match) as caught:
        ActivationOracle.from_pretrained(written.folder)
    assert "\n" not in str(caught.value)


def test_lens_without_its_prompt(tmp_path):
    written = write_oracle_lens(tmp_path / "lens")
    (written.folder / "nla_meta.yaml").unlink()
    with pytest.raises(InputError, match=r"the prompt .* is missing"):
        ActivationOracle.from_pretrained(written.folder)


def test_transluce_puts_the_vector_as_it_is(tmp_path, states):
    written = write_transluce(tmp_path / "explainer")
    oracle = ActivationOracle.from_pretrained(written.folder)
    question = "At layer 1, {vectors} stands for what?"
    prompt = oracle.prompt_for(question, 1)
    names = [f"<|reserved_special_token_{number}|>" for number in (10, 12, 11)]
    ids = [oracle.tokenizer.convert_tokens_to_ids(name) for name in names]
    place = prompt.places[0]
    assert prompt.ids[place - 1 : place + 2] == ids
    model = AutoModelForCausalLM.from_pretrained(written.folder).eval()
    for state, words in zip(states, oracle.ask(states, question, 1, CAP), strict=True):
        assert same_words(oracle, model, prompt, embedding_hook(prompt.places, [state]), words)
    with pytest.raises(InputError, match=r"write \{vectors\} there, once"):
        oracle.ask(states, "What?", 1)
    with pytest.raises(InputError, match="the slot of a vector; remove it"):
        oracle.ask(states, f"{names[1]} {{vectors}}", 1)


@pytest.mark.parametrize(
    ("name", "match"),
    [("latentqa_llama-3-8b-instruct", "order of the turns"), ("input_ablation_llama", "read no vector")],
)
def test_what_is_missing_is_said(tmp_path, name, match):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=match) as caught:
        ActivationOracle.from_pretrained(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_transluce(tmp_path_factory.mktemp("plain")).folder


def test_selfie(plain, states):
    oracle, model = ActivationOracle.baseline(plain, scale=9.0), AutoModelForCausalLM.from_pretrained(plain).eval()
    with pytest.raises(InputError, match="' X' of this oracle is 2 tokens"):
        oracle.ask(states, layer=1)
    from dataclasses import replace

    oracle.protocol = replace(oracle.protocol, slot=MARKER)
    prompt = oracle.prompt_for(layer=1)
    for state, words in zip(states, oracle.ask(states, layer=1, asking=CAP), strict=True):
        assert same_words(oracle, model, prompt, embedding_hook(prompt.places, [9 * state / state.norm()]), words)


def test_patchscopes_puts_the_state_back_into_its_own_block(plain, states):
    oracle = ActivationOracle.baseline(plain, "patchscopes")
    model = AutoModelForCausalLM.from_pretrained(plain).eval()
    prompt = oracle.prompt_for(layer=2)
    assert oracle.tokenizer.decode(prompt.ids).endswith("hello -> hello\n?")
    assert prompt.places == [len(prompt.ids) - 1]

    def put(state):
        def hook(_module, _args, output):
            stream = output[0] if isinstance(output, tuple) else output
            if stream.shape[1] < 2:
                return output
            changed = stream.clone()
            changed[0, -1] = state
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return lambda part: part.model.layers[2].register_forward_hook(hook)

    for state, words in zip(states, oracle.ask(states, layer=2, asking=CAP), strict=True):
        assert same_words(oracle, model, prompt, put(state), words)


def test_an_unknown_baseline(plain):
    with pytest.raises(InputError, match="unknown baseline 'selfy'; nearest: selfie"):
        ActivationOracle.baseline(plain, "selfy")
