import pytest
import torch
from safetensors import safe_open

from tests import zoo
from tests.nla import checkpoints
from tl_nla.errors import InputError
from tl_nla.model import saving
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.nla.injection import KINDS

TEMPLATES = {"av_template": "<concept>{injection_char}</concept>", "ar_template": "<text>{explanation}</text> S"}
TEXTS = ["one", "and two"]


def make(model="qwen2", layer=1, kind="constant", slots=1, **settings):
    model = checkpoints.source_model(model) if isinstance(model, str) else model
    config = InjectionConfig(kind, 5.0 if kind in ("constant", "affine") else None, slots)
    return NLA.create(model, checkpoints.byte_tokenizer(), layer, config, **{**TEMPLATES, **settings})


def shake(nla):
    """Move every parameter, as training would."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in nla.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return nla


def same(left, right):
    acts = torch.randn(4, zoo.D_MODEL, generator=torch.Generator().manual_seed(2))
    assert right.layer == left.layer
    assert right.verbalizer.prompt == left.verbalizer.prompt
    assert right.verbalizer.injection.config == left.verbalizer.injection.config
    assert right.reconstructor.template == left.reconstructor.template
    ids, mask = left.verbalizer.encode_responses(["a", "b c", "d", "e"])
    with torch.no_grad():
        torch.testing.assert_close(right.verbalizer(acts, ids, mask), left.verbalizer(acts, ids, mask), rtol=0, atol=0)
    torch.testing.assert_close(right.reconstruct(TEXTS), left.reconstruct(TEXTS), rtol=0, atol=0)


def reload(folder, **settings):
    return NLA.from_pretrained(folder / "av", folder / "ar", **settings)


@pytest.mark.parametrize("layer", [0, zoo.N_LAYERS - 1])
def test_every_family_survives_saving(family, layer, tmp_path):
    nla = shake(make(family, layer))
    nla.save_pretrained(tmp_path)
    same(nla, reload(tmp_path))


@pytest.mark.parametrize(("kind", "slots"), [(kind, 1) for kind in KINDS] + [("affine", 3), ("constant", 2)])
def test_every_injection_survives_saving(kind, slots, tmp_path):
    nla = shake(make(kind=kind, slots=slots))
    nla.save_pretrained(tmp_path)
    same(nla, reload(tmp_path))


def test_saved_reconstructor_has_the_released_layout(tmp_path):
    make("llama").save_pretrained(tmp_path)
    with safe_open(tmp_path / "ar" / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    assert "model.embed_tokens.weight" in names
    assert {name.split(".")[2] for name in names if ".layers." in name} == {"0", "1"}
    assert not {"model.norm.weight", "lm_head.weight"} & names
    with safe_open(tmp_path / "ar" / "value_head.safetensors", "pt") as weights:
        assert list(weights.keys()) == ["weight"]


def test_folders_hold_nothing_of_the_saving(tmp_path):
    nla = make()
    nla.save_pretrained(tmp_path)
    nla.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ar", "av"]


@pytest.mark.parametrize("failing", ["write_verbalizer", "write_reconstructor"])
def test_failed_saving_leaves_the_earlier_one(tmp_path, monkeypatch, failing):
    first = make()
    first.save_pretrained(tmp_path)

    def fail(*_args):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"tl_nla.nla.pair.{failing}", fail)
        with pytest.raises(OSError, match="No space"):
            shake(make()).save_pretrained(tmp_path)
    same(first, reload(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ar", "av"]


def test_failed_replacement_puts_the_old_folder_back(tmp_path):
    old = tmp_path / "av"
    old.mkdir()
    (old / "file").write_text("old")
    with pytest.raises(OSError, match="nowhere"):
        saving.replace_folder(tmp_path / "nowhere", old)
    assert (old / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("reconstructor.head", "weight"),
        ("reconstructor.backbone", "layers.0.mlp.up_proj.weight"),
        ("verbalizer.model", "lm_head.weight"),
        ("verbalizer.injection", "weight"),
    ],
)
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_not_saved_over_finite_ones(tmp_path, part, name, bad):
    nla = make(kind="affine")
    nla.save_pretrained(tmp_path)
    dict(nla.get_submodule(part).named_parameters())[name].data.view(-1)[3] = bad
    with pytest.raises(InputError, match=f"NaN or infinite values in '.*{name}'.*nothing was saved"):
        nla.save_pretrained(tmp_path)
    reload(tmp_path)
    with pytest.raises(InputError, match="nothing was saved"):
        nla.save_pretrained(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ar", "av"]


def test_weights_too_large_for_the_saved_type_are_refused(tmp_path):
    nla = make()
    nla.verbalizer.model.get_input_embeddings().weight.data[0, 0] = 1e6
    with pytest.raises(InputError, match=r"too large for torch\.float16.*bfloat16"):
        nla.save_pretrained(tmp_path, dtype=torch.float16)
    assert not list(tmp_path.iterdir())
    nla.save_pretrained(tmp_path, dtype=torch.bfloat16)


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    (tmp_path / "av").mkdir()
    (tmp_path / "av" / "film.mkv").write_text("mine")
    with pytest.raises(InputError, match=r"av' would be replaced, but holds 'film\.mkv'"):
        make().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["av", "film.mkv"]


@pytest.mark.parametrize("tied", [True, False])
def test_smaller_dtype(tmp_path, tied):
    nla = make(checkpoints.source_model("llama", tie_word_embeddings=tied), kind="affine")
    before = nla.verbalizer.model.config.to_dict()
    nla.save_pretrained(tmp_path, dtype=torch.bfloat16)
    with safe_open(tmp_path / "av" / "model.safetensors", "pt") as weights:
        assert ("lm_head.weight" in weights.keys()) is not tied  # noqa: SIM118
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
    again = reload(tmp_path, dtype=None)
    assert again.verbalizer.model.dtype == torch.bfloat16
    assert again.reconstructor.backbone.dtype == torch.bfloat16
    assert again.reconstructor.head.weight.dtype == torch.float32
    assert again.verbalizer.injection.weight.dtype == torch.float32
    assert reload(tmp_path).verbalizer.model.dtype == torch.float32
    assert nla.verbalizer.model.config.to_dict() == before
    torch.testing.assert_close(reload(tmp_path).reconstruct(TEXTS), nla.reconstruct(TEXTS), atol=0.2, rtol=0.2)


def test_created_pair_is_trainable_and_apart_from_the_model():
    model = checkpoints.source_model("qwen2").requires_grad_(False)
    seen = []
    model.model.layers[0].register_forward_hook(lambda *_: seen.append(1))
    nla = make(model, kind="affine")
    assert all(parameter.requires_grad for parameter in nla.parameters())
    theirs = {parameter.data_ptr() for parameter in model.parameters()}
    assert not theirs & {parameter.data_ptr() for parameter in nla.parameters()}
    nla.verbalize(torch.randn(2, zoo.D_MODEL), max_new_tokens=2)
    assert not seen
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_created_reconstructor_starts_at_the_layer():
    """With the identity head it gives the very state of the model at the prompt's last token."""
    model = checkpoints.source_model("qwen2")
    nla = make(model)
    ids, _ = nla.reconstructor.encode(["a text"])
    with torch.no_grad():
        state = model(ids, output_hidden_states=True).hidden_states[nla.layer + 1][0, -1]
    torch.testing.assert_close(nla.reconstruct(["a text"])[0], state, atol=1e-5, rtol=1e-5)


def test_bridges_are_refused():
    bridge = zoo.bridge("llama")
    with pytest.raises(InputError, match="made from a Hugging Face causal language model; this is a TransformerBridge"):
        make(bridge)
    with pytest.raises(InputError, match="has rewritten this model in place"):
        make(bridge.original_model)


def test_headless_models_are_refused():
    with pytest.raises(InputError, match="no language-model head"):
        make(checkpoints.source_model("llama").model)


@pytest.mark.parametrize("layer", [-1, zoo.N_LAYERS])
def test_layer_out_of_range(layer):
    with pytest.raises(InputError, match="layers 0 to 2"):
        make(layer=layer)


def test_parts_of_different_size_are_refused():
    small, large = make(), make(checkpoints.source_model("qwen2", hidden_size=48))
    with pytest.raises(InputError, match="size 32, the reconstructor writes 48"):
        NLA(small.verbalizer, large.reconstructor, 1)
