"""Adapters of the reimplementations, written with PEFT itself."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import zoo
from tests.nla import checkpoints, reference
from tl_nla.errors import InputError
from tl_nla.model.loading import load_causal_lm
from tl_nla.nla import NLA, InjectionConfig

peft = pytest.importorskip("peft")
# PEFT 0.21 asks transformers for something under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def adapted(model, seed=0):
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    wrapped = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return wrapped.eval()


@pytest.fixture(params=["whole", "cut", "backbone"])
def pair(request, tmp_path):
    """A verbalizer adapter and a reconstructor adapter on one base, as each reimplementation may have trained it."""
    tokenizer = checkpoints.byte_tokenizer()
    base, av, ar = tmp_path / "base", tmp_path / "av", tmp_path / "ar"
    checkpoints.source_model("qwen2").save_pretrained(base)
    for part, seed in ((av, 1), (ar, 2)):
        model = load_causal_lm(base)
        if part is ar and request.param != "whole":
            model.model.layers = model.model.layers[: checkpoints.LAYER + 1]
        if part is ar and request.param == "backbone":
            model = model.model
        wrapped = adapted(model, seed)
        wrapped.peft_config["default"].base_model_name_or_path = str(base)
        wrapped.save_pretrained(part)
        tokenizer.save_pretrained(part)
        checkpoints.write_sidecar(part, checkpoints.sidecar(tokenizer, part.name))
    if request.param == "whole":  # only the first blocks reach the output, so only their adapters are kept
        weights = load_file(ar / "adapter_model.safetensors")
        kept = {name: value for name, value in weights.items() if f"layers.{checkpoints.LAYER + 1}." not in name}
        save_file(kept, ar / "adapter_model.safetensors")
    save_file({"weight": checkpoints.head_weight()}, ar / "ar_lora_value_head.safetensors")
    settings = {"ar_num_layers": checkpoints.LAYER + 1, "lora_r": 4, "lora_alpha": 8, "final_norm_stripped": True}
    (ar / "ar_meta.json").write_text(json.dumps(settings))
    return base, av, ar


def whole_model(base, seed):
    return adapted(load_causal_lm(base), seed).merge_and_unload()


def test_adapters_are_read(pair):
    base, av, ar = pair
    nla = NLA.from_pretrained(av, ar)
    tokenizer = nla.verbalizer.tokenizer
    assert nla.layer == checkpoints.LAYER
    expected = reference.vector(_only_adapted_below(base), tokenizer, "some text", checkpoints.head_weight())
    torch.testing.assert_close(nla.reconstruct(["some text"])[0], expected, atol=1e-4, rtol=1e-4)
    act = torch.randn(1, zoo.D_MODEL)
    ids, mask = nla.verbalizer.encode_responses(["words"])
    with torch.no_grad():
        ours = nla.verbalizer(act, ids, mask)[0]
    expected = reference.response_logits(whole_model(base, 1), tokenizer, act[0], ids[0].tolist())
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def _only_adapted_below(base):
    """The reconstructor's whole model; random adapters are drawn block by block, so the first blocks agree."""
    return whole_model(base, 2)


def test_sidecar_may_be_missing_beside_ar_meta(pair):
    _, av, ar = pair
    expected = NLA.from_pretrained(av, ar).reconstruct(["text"])
    (ar / "nla_meta.yaml").unlink()
    torch.testing.assert_close(NLA.from_pretrained(av, ar).reconstruct(["text"]), expected)


@pytest.mark.parametrize("said", [checkpoints.LAYER, None])
def test_number_of_blocks_in_either_meaning_or_from_the_adapter(pair, said):
    _, av, ar = pair
    expected = NLA.from_pretrained(av, ar).reconstruct(["text"])
    (ar / "ar_meta.json").write_text(json.dumps({"ar_num_layers": said, "final_norm_stripped": True}))
    for part in (av, ar):
        checkpoints.edit_sidecar(part, extraction_layer_index=...)
    nla = NLA.from_pretrained(av, ar)
    assert nla.layer == checkpoints.LAYER
    torch.testing.assert_close(nla.reconstruct(["text"]), expected)


def test_additive_injection_can_be_asked_for(pair):
    _, av, ar = pair
    checkpoints.edit_sidecar(av, extraction=...)
    with pytest.raises(InputError, match="give injection=InjectionConfig"):
        NLA.from_pretrained(av, ar)
    nla = NLA.from_pretrained(av, ar, injection=InjectionConfig("additive"))
    assert nla.verbalizer.injection.config.kind == "additive"


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda base, av, ar: (ar / "ar_lora_value_head.safetensors").unlink(), "no weights at .*ar_lora_value_head"),
        (lambda base, av, ar: (ar / "ar_meta.json").write_text('{"ar_num_layers": 9}'), "says 9 blocks"),
        (lambda base, av, ar: (ar / "ar_meta.json").write_text("{"), "cannot be read as JSON"),
        (lambda base, av, ar: (ar / "ar_meta.json").write_text("[]"), "must be an object"),
        (lambda base, av, ar: (av / "adapter_model.safetensors").unlink(), "no weights at .*adapter_model"),
        (lambda base, av, ar: _settings(av, base_model_name_or_path=None), "names no base_model_name_or_path"),
        (lambda base, av, ar: _settings(av, base_model_name_or_path="/not/there"), "is no folder"),
        (lambda base, av, ar: _settings(av, target_modules=["nothing"]), "does not fit its base"),
        (lambda base, av, ar: _settings(av, target_modules=["q_proj"]), "does not fit its base"),
        (lambda base, av, ar: _settings(av, r=2), "does not fit its base"),
    ],
)
def test_refusals(pair, damage, match):
    damage(*pair)
    with pytest.raises(InputError, match=match) as caught:
        NLA.from_pretrained(*pair[1:])
    assert "\n" not in str(caught.value)


def _settings(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_without_peft_the_extra_is_named(pair, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"tl-nla\[lora\]"):
        NLA.from_pretrained(*pair[1:])


def test_pair_trained_with_adapters_generates_and_is_saved_merged(tmp_path):
    """LoRA on both parts: base weights frozen, same words as the merged pair, released layout on disk."""
    tokenizer, model = checkpoints.byte_tokenizer(), checkpoints.source_model("qwen2")
    nla = NLA.create(model, tokenizer, 1, InjectionConfig("additive"), "<concept>{injection_char}</concept>")
    nla.verbalizer.model = adapted(nla.verbalizer.model, 1)
    nla.reconstructor.backbone = adapted(nla.reconstructor.backbone, 2)
    acts = torch.randn(3, zoo.D_MODEL)
    expected = nla.generate(acts, max_new_tokens=8)
    nla.save_pretrained(tmp_path)
    again = NLA.from_pretrained(tmp_path / "av", tmp_path / "ar")
    torch.testing.assert_close(again.generate(acts, max_new_tokens=8).logprobs, expected.logprobs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again.reconstruct(["a"]), nla.reconstruct(["a"]), atol=1e-4, rtol=1e-4)
    assert any("lora_" in name for name, _ in nla.named_parameters())  # ours is still adapted
