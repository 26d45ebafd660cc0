"""The shipped oracle: its files, and which models it takes for the one that it was made for."""

import pytest
import torch

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.oracle.words import WordCode, WordOracle
from tl_nla.smollm2 import fingerprint
from tl_nla.smollm2 import oracle as shipped
from tl_nla.smollm2.oracle import FOLDER, shipped_oracle


@pytest.fixture
def few_ids(monkeypatch):
    monkeypatch.setattr(fingerprint, "TOKENS", (1, 5, 9, 33, 17, 60, 41, 8))


def test_other_precisions_are_the_same_model_and_other_weights_are_not(few_ids):
    known = fingerprint.fingerprint(zoo.bridge(zoo.hf_model("llama")))
    half = zoo.bridge(zoo.hf_model("llama").to(torch.bfloat16))
    assert fingerprint.check_fingerprint(half, known, "it") > 0.99
    other = zoo.hf_model("llama")
    with torch.no_grad():
        for weight in other.parameters():
            weight.copy_(weight.flatten()[torch.randperm(weight.numel())].view_as(weight))
    with pytest.raises(InputError, match="this model's states agree with it by"):
        fingerprint.check_fingerprint(zoo.bridge(other), known, "it")


def test_what_is_accepted_says_how_well_it_agrees(few_ids, monkeypatch):
    """Weights rounded to bfloat16, as a hub stores them, are taken, and the agreement is noted with the oracle."""
    model = zoo.bridge(zoo.hf_model("llama"))
    kept = WordOracle.__new__(WordOracle)
    kept.made = {"fingerprint": fingerprint.fingerprint(model), "seed": 0}
    monkeypatch.setattr(shipped, "_WIDTH", int(model.cfg.d_model))
    monkeypatch.setattr(shipped, "_LAYERS", int(model.cfg.n_layers))
    monkeypatch.setattr(WordOracle, "from_pretrained", lambda *_, **__: kept)
    rounded = zoo.hf_model("llama").to(torch.bfloat16).float()
    found = shipped_oracle(zoo.bridge(rounded)).made
    assert 0.99 < found["agreement"] < 1
    assert found["seed"] == 0


def test_a_model_with_fewer_tokens_is_another(llama):
    assert fingerprint.agreement(llama, [0.0] * 144) == 0.0


def test_a_model_of_another_shape_is_refused(llama):
    with pytest.raises(InputError, match="30 layers of width 576; this model has 3 layers of width 32"):
        shipped_oracle(llama)


def test_the_shipped_code_is_small_and_names_every_component():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 13e6
    code = WordCode.load(FOLDER / "code.safetensors")
    assert (len(code.sites), code.d_model, code.places) == (360, 576, 16)
    assert {f"blocks.{layer}.attn.head.{head}" for layer in range(30) for head in range(9)} < set(code.sites)
    many = {site for site, count in zip(code.sites, code.choice.tolist(), strict=True) if count == 16384}
    assert many == {f"blocks.{layer}{part}" for layer in range(30) for part in ("", ".mlp")}
    assert code.choice.unique().tolist() == [4096, 16384]
    assert len(set(code.text)) == len(code.text) == len(code.tables.token) == 16384
