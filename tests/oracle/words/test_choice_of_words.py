"""How many words each component chooses from: heads fewer than MLPs; folders from before choose from all of them."""

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.oracle import DiffOracle, parse_label
from tl_nla.oracle.texts import Label, label_text
from tl_nla.oracle.words import FitConfig, WordOracle

HEAD, MLP = "blocks.1.attn.head.0", "blocks.0.mlp"
SITES = (HEAD, "blocks.1.attn", MLP, "blocks.1")
FEW, MANY = 16, 48


@pytest.fixture(scope="module")
def model():
    return zoo.bridge(zoo.hf_model("llama"))


@pytest.fixture(scope="module")
def writes(model):
    """Writes without structure; those of the head lie in its space."""
    generator = torch.Generator().manual_seed(0)
    found = {site: tuple(torch.randn(2, 300, int(model.cfg.d_model), generator=generator)) for site in SITES}
    out = model.blocks[1].attn.W_O[0].detach()
    found[HEAD] = found[HEAD][0], torch.randn(300, len(out), generator=generator) @ out
    return found


def fitted(model, writes, **counts):
    seen = torch.arange(zoo.VOCAB, 0, -1)
    config = FitConfig(words=6, rows=200, **counts)
    return WordOracle.fitted(model, zoo.tokenizer(), writes, seen, config, "zoo")


@pytest.fixture(scope="module")
def oracle(model, writes):
    return fitted(model, writes, head_words=FEW, other_words=MANY)


def said(oracle, writes, site):
    before, write = writes[site]
    labels = [parse_label(text) for text in oracle.explain(write, before, sites=[site] * len(write))]
    return {word for label in labels for word in (*label.promoted, *label.suppressed)}


def error(oracle, writes, site):
    before, write = writes[site]
    found = oracle.reconstruct(oracle.explain(write, before, sites=[site] * len(write)))
    return float((normalise(found) - normalise(write)).square().sum())


def test_heads_and_attentions_say_frequent_words_and_others_say_more_of_them(oracle, writes):
    frequent = set(oracle.code.text[:FEW])
    assert len(oracle.code.text) == MANY
    for site in SITES[:2]:
        assert said(oracle, writes, site) <= frequent
    for site in SITES[2:]:
        assert len(said(oracle, writes, site)) > 2 * FEW


def test_the_choice_of_heads_does_not_depend_on_that_of_others(oracle, model, writes):
    fewer = fitted(model, writes, head_words=FEW, other_words=FEW)
    before, write = writes[HEAD]
    texts = [one.explain(write, before, sites=[HEAD] * len(write)) for one in (oracle, fewer)]
    assert texts[0] == texts[1]
    assert error(oracle, writes, MLP) < 0.9 * error(fewer, writes, MLP), "more words say more"


def test_words_that_a_component_does_not_choose_from_tell_nothing(oracle):
    rare = oracle.code.text[FEW:][:3]
    texts = [label_text(Label(words, (), None, 3, name)) for name in ("layer 1 head 0", "layer 0 mlp")
             for words in (rare, ())]  # fmt: skip
    found = oracle.reconstruct(texts)
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[2], found[3])


def test_a_saved_choice_is_the_same_and_a_folder_from_before_chooses_from_all(oracle, model, writes, tmp_path):
    oracle.save_pretrained(tmp_path / "new")
    loaded = DiffOracle.from_pretrained(tmp_path / "new")
    assert torch.equal(loaded.code.choice, oracle.code.choice)
    assert said(loaded, writes, HEAD) <= set(oracle.code.text[:FEW])
    whole = fitted(model, writes, head_words=FEW, other_words=FEW)
    whole.save_pretrained(tmp_path / "old")
    path = tmp_path / "old" / "code.safetensors"
    with safe_open(path, "pt") as file:
        kept = file.metadata()
    save_file({name: value for name, value in load_file(path).items() if name != "choice"}, path, metadata=kept)
    sidecar = tmp_path / "old" / "words.yaml"
    values = yaml.safe_load(sidecar.read_text())
    sidecar.write_text(yaml.safe_dump({**values, "version": 2}))
    before, write = writes[MLP]
    old = DiffOracle.from_pretrained(tmp_path / "old")
    assert old.code.choice.tolist() == [FEW] * len(SITES)
    texts = whole.explain(write, before, sites=[MLP] * len(write))
    found = old.reconstruct(texts)
    torch.testing.assert_close(found, whole.reconstruct(texts), rtol=0.01, atol=0.01)
    sidecar.write_text(yaml.safe_dump({**values, "version": 4}))
    with pytest.raises(InputError, match="is of version 4, this tl-nla reads 2 and 3; update tl-nla"):
        DiffOracle.from_pretrained(tmp_path / "old")
