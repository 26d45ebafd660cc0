"""Small pairs: what is trained, what is saved, and that a saved one says and reads the same."""

import json

import pytest
import torch

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.model.loading import load_tokenizer
from tl_nla.nla import NLA
from tl_nla.nla.adapted import AdaptedPair, adapted_nla
from tl_nla.nla.adapted_files import load_adapted, save_adapted, saved_config
from tl_nla.nla.generation import Responses
from tl_nla.nla.reference import LoraSettings
from tl_nla.nla.slot_start import never_trained, start_slots
from tl_nla.storyworld.tiny import WEIGHTS

pytest.importorskip("peft")
# PEFT 0.21 asks transformers for something under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
TOKENIZER = load_tokenizer(WEIGHTS / "target")


def small(family="llama", **settings):
    model = zoo.hf_model(family, vocab_size=len(TOKENIZER), max_position_embeddings=256)
    pair = AdaptedPair(**{"layer": 1, "slots": 3, "lora": LoraSettings(4, 8.0), **settings})
    return model, adapted_nla(model, TOKENIZER, pair)


def moved(nla):
    with torch.no_grad():
        for number, parameter in enumerate(p for p in nla.parameters() if p.requires_grad):
            torch.manual_seed(number)
            parameter += 0.05 * torch.randn_like(parameter)
    return nla.eval()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_only_adapters_slots_and_head_are_trained(family):
    _, nla = small(family)
    trained = [name for name, p in nla.named_parameters() if p.requires_grad]
    assert all(".lora_" in name or name.startswith(("verbalizer.injection", "reconstructor.head")) for name in trained)
    assert {name.split(".")[0] for name in trained if ".lora_" in name} == {"verbalizer", "reconstructor"}
    assert nla.layer == 1


def test_the_layer_is_two_thirds_of_the_way_up():
    assert AdaptedPair().layer_of(30) == 20
    assert AdaptedPair(layer=3).layer_of(4) == 3
    with pytest.raises(InputError, match="layers 0 to 3"):
        AdaptedPair(layer=4).layer_of(4)


def test_an_untrained_reconstructor_reads_a_text_as_the_target_does():
    model, nla = small()
    ids, _ = nla.reconstructor.encode(["Tom went home"])
    expected = model.eval()(input_ids=ids, output_hidden_states=True).hidden_states[2][:, -1]
    assert torch.allclose(nla.eval().reconstruct(["Tom went home"]), expected, atol=1e-5)


def test_saved_and_loaded(tmp_path):
    model, nla = small()
    model.save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    moved(nla).base = str(tmp_path / "model")
    nla.mean = torch.arange(nla.d_model).float()
    save_adapted(nla, tmp_path / "pair", about={"seed": 3})
    again = load_adapted(str(tmp_path / "pair")).eval()
    acts = torch.randn(3, nla.d_model)
    assert again.verbalize(acts, max_new_tokens=8) == nla.verbalize(acts, max_new_tokens=8)
    assert torch.allclose(again.reconstruct(["Tom ran."]), nla.reconstruct(["Tom ran."]), atol=1e-5)
    assert torch.equal(again.mean, nla.mean)
    opened = NLA.from_pretrained(tmp_path / "pair")
    assert {p.dtype for p in opened.parameters()} == {torch.float32}
    assert opened.verbalize(acts, max_new_tokens=8) == nla.verbalize(acts, max_new_tokens=8)
    assert opened.provenance["family"] == "small"
    assert saved_config(tmp_path / "pair") == nla.adapted
    assert json.loads((tmp_path / "pair" / "adapters.json").read_text())["about"] == {"seed": 3}
    whole = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert (tmp_path / "pair" / "adapters.safetensors").stat().st_size < 2 * whole, "no weight of the target's"
    with pytest.raises(InputError, match="of layer 1, not 0"):
        load_adapted(str(tmp_path / "pair"), AdaptedPair(layer=0))


def test_another_shape_is_refused(tmp_path):
    model, nla = small()
    model.save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    nla.base = str(tmp_path / "model")
    save_adapted(nla, tmp_path / "pair")
    told = json.loads((tmp_path / "pair" / "adapters.json").read_text())
    (tmp_path / "pair" / "adapters.json").write_text(json.dumps({**told, "slots": 2}))
    with pytest.raises(InputError, match="another shape"):
        load_adapted(str(tmp_path / "pair"))
    (tmp_path / "pair" / "adapters.json").write_text(json.dumps({"layer": 1}))
    with pytest.raises(InputError, match="settings of a small pair"):
        load_adapted(str(tmp_path / "pair"))


def test_slots_start_as_guesses_at_the_last_words():
    _, nla = small()
    verbalizer = nla.verbalizer
    assert never_trained(verbalizer)
    words = ["Tom", "Mia", "dog", "cat", "home", "red"]
    texts = [f"{words[n % 6]} {words[(n // 6) % 6]}" for n in range(72)]
    ids = [verbalizer.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    embedded = verbalizer.embed(torch.tensor([[own[-2], own[-1]] for own in ids])).detach()
    mixed = torch.randn(nla.d_model, nla.d_model, generator=torch.Generator().manual_seed(0)) / nla.d_model**0.5
    acts = embedded[:, 1] + embedded[:, 0] @ mixed
    start_slots(verbalizer, acts, texts, decay=1e-6)
    assert not never_trained(verbalizer)
    found = verbalizer.injection(acts)
    assert torch.equal(verbalizer.injection.weight[0], torch.eye(nla.d_model)), "the first slot is the state itself"
    for slot, goal in ((2, embedded[:, 1]), (1, embedded[:, 0])):
        error = (found[:, slot] - goal).square().sum() / (goal - goal.mean(0)).square().sum()
        assert error < 0.3
    with pytest.raises(InputError, match="a text a state"):
        start_slots(verbalizer, acts, texts[:3])


def test_the_end_token_is_no_word(monkeypatch):
    _, nla = small()
    verbalizer = nla.verbalizer
    ids, mask = verbalizer.encode_responses(["Tom went home", "Tom"])
    assert ids[0, -1] == verbalizer.end_id
    responses = Responses(ids, mask, torch.zeros(ids.shape), torch.tensor([True, True]))
    monkeypatch.setattr(verbalizer, "respond", lambda *_args: responses)
    found = verbalizer.generate(torch.randn(2, nla.d_model))
    assert found.texts == ["Tom went home", "Tom"]
    assert found.extracted.all()
