import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests import zoo
from tests.nla import checkpoints
from tl_nla.errors import InputError
from tl_nla.model.families import context_length, decoder_layers, final_norm_name, text_backbone
from tl_nla.model.loading import load_causal_lm


def test_parts_are_found_in_every_family(family):
    model = zoo.hf_model(family)
    backbone = text_backbone(model)
    assert len(decoder_layers(model)) == zoo.N_LAYERS
    assert text_backbone(backbone) is backbone
    assert isinstance(getattr(backbone, final_norm_name(backbone)), torch.nn.Module)
    assert context_length(model) == zoo.N_CTX


@pytest.fixture
def multimodal():
    """Gemma 3 with its image part, as the released Gemma checkpoints are."""
    text = checkpoints.source_model("gemma3").config.to_dict()
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1)
    return zoo.randomise(transformers.Gemma3ForConditionalGeneration(config))


def test_text_part_of_a_multimodal_model(multimodal, tmp_path):
    multimodal.save_pretrained(tmp_path)
    model = load_causal_lm(tmp_path)
    assert type(model).__name__ == "Gemma3ForCausalLM"
    ids = zoo.tokens(2, 12)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, multimodal(ids).logits, atol=1e-5, rtol=1e-5)
    assert not any(parameter.is_meta for parameter in model.parameters())
    model.save_pretrained(tmp_path / "text")
    with torch.no_grad():
        again = load_causal_lm(tmp_path / "text")(ids).logits
        torch.testing.assert_close(again, multimodal(ids).logits, atol=1e-5, rtol=1e-5)


def test_a_cap_of_the_attention_scores_is_kept(tmp_path):
    model = zoo.hf_model("gemma2", attn_logit_softcapping=0.1)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        loaded, plain = (m(zoo.tokens()).logits for m in (load_causal_lm(tmp_path), zoo.hf_model("gemma2")))
        torch.testing.assert_close(loaded, model(zoo.tokens()).logits)
    assert (loaded - plain).abs().max() > 0.1


def test_sharded_weights(tmp_path):
    model = zoo.hf_model("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    with torch.no_grad():
        assert torch.equal(load_causal_lm(tmp_path)(zoo.tokens()).logits, model(zoo.tokens()).logits)
    shards[0].unlink()
    with pytest.raises(InputError, match="holds no usable language model") as caught:
        load_causal_lm(tmp_path)
    assert "\n" not in str(caught.value)


def test_wrong_shapes(tmp_path):
    zoo.hf_model("llama").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights["model.embed_tokens.weight"] = torch.zeros(3, 3)
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(InputError, match="holds no usable language model"):
        load_causal_lm(tmp_path)


def test_code_of_others_is_never_run(tmp_path):
    zoo.hf_model("llama").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    evil = '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}'
    path.write_text(evil)
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match="holds no usable language model"):
        load_causal_lm(tmp_path)


def test_stored_dtype_is_kept_when_none_is_asked_for(tmp_path):
    zoo.hf_model("llama").bfloat16().save_pretrained(tmp_path)
    assert load_causal_lm(tmp_path).dtype == torch.bfloat16
    assert load_causal_lm(tmp_path, torch.float32).dtype == torch.float32
