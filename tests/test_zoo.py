"""The models that the other tests stand on are what they claim to be."""

import pytest
import torch

from tests import zoo


def test_bridge_computes_what_the_hugging_face_model_computes(family, get_model):
    ids = zoo.tokens()
    with torch.no_grad():
        expected = get_model("hf", family)(ids).logits
        torch.testing.assert_close(get_model("bridge", family)(ids), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", zoo.TWIN_FAMILIES)
def test_hooked_twin_computes_what_the_hugging_face_model_computes(family, get_model):
    ids = zoo.tokens()
    with torch.no_grad():
        twin = get_model("hooked", family)(ids)
        torch.testing.assert_close(twin, get_model("hf", family)(ids).logits, atol=5e-5, rtol=1e-3)


def test_models_are_the_same_each_time():
    ids = zoo.tokens()
    with torch.no_grad():
        assert torch.equal(zoo.hf_model("llama")(ids).logits, zoo.hf_model("llama")(ids).logits)


def test_tokenizer_round_trip(tokenizer):
    assert tokenizer("w4 w63 nonsense", add_special_tokens=False).input_ids == [4, 63, 3]


@pytest.mark.skipif(not zoo.HAS_HOOKED_TRANSFORMER, reason="HookedTransformer left TransformerLens with version 4")
def test_hooked_transformer_runs():
    assert zoo.hooked_transformer()(zoo.tokens()).shape == (2, 7, zoo.VOCAB)
