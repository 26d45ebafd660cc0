"""Checkpoints in the released format give what the published recipe gives."""

import json

import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import zoo
from tests.nla import checkpoints, reference
from tests.nla.checkpoints import FAMILIES, edit_sidecar
from tl_nla.errors import InputError
from tl_nla.nla import NLA, InjectionConfig

TEXTS = ["Mary has the ball.", "x", "A long one, about nothing at all"]


@pytest.fixture(scope="module", params=[(family, schema) for family in FAMILIES for schema in (1, 2)], ids=str)
def released(request, tmp_path_factory):
    """A loaded pair, the whole model it was cut from, and the tokenizer as any reader would load it."""
    family, schema = request.param
    av, ar = checkpoints.write_pair(tmp_path_factory.mktemp("pair"), family, schema)
    whole = AutoModelForCausalLM.from_pretrained(av).eval()
    return NLA.from_pretrained(av, ar), whole, AutoTokenizer.from_pretrained(av)


@pytest.fixture
def acts():
    return 30 * torch.randn(5, zoo.D_MODEL, generator=torch.Generator().manual_seed(1))


def test_prompt_ids(released):
    nla, _, tokenizer = released
    prompt = nla.verbalizer.prompt
    assert prompt.ids == reference.prompt_ids(tokenizer)
    assert tokenizer.decode([prompt.ids[i] for i in prompt.places]) == checkpoints.CHAR


def test_injected_embeddings(released, acts):
    nla, whole, tokenizer = released
    ours = nla.verbalizer.prompt_embeddings(acts).detach()
    for row, act in enumerate(acts):
        torch.testing.assert_close(ours[row], reference.embeddings(whole, tokenizer, act), atol=1e-5, rtol=1e-5)
        assert ours[row, nla.verbalizer.prompt.places[0]].norm() == pytest.approx(checkpoints.SCALE, rel=1e-5)


def test_logits(released, acts):
    nla, whole, tokenizer = released
    ids, mask = nla.verbalizer.encode_responses(["short", "A much longer one.", "", "y", "z"])
    with torch.no_grad():
        ours = nla.verbalizer(acts, ids, mask)
    assert ours.shape == (*ids.shape, whole.config.vocab_size)
    for row, act in enumerate(acts):
        length = int(mask[row].sum())
        expected = reference.response_logits(whole, tokenizer, act, ids[row, :length].tolist())
        torch.testing.assert_close(ours[row, :length], expected, atol=1e-4, rtol=1e-4)


def test_vectors(released):
    nla, whole, tokenizer = released
    ours = nla.reconstruct(TEXTS)
    for row, text in enumerate(TEXTS):
        expected = reference.vector(whole, tokenizer, text, checkpoints.head_weight())
        torch.testing.assert_close(ours[row], expected, atol=1e-4, rtol=1e-4)


def test_injection_character_in_a_text_is_refused(released):
    nla, _, _ = released
    with pytest.raises(InputError, match=r"text 1 .* holds the injection character .*U\+320E.*remove it") as caught:
        nla.reconstruct(["fine", f"no {checkpoints.CHAR}"])
    assert "\n" not in str(caught.value)


def test_text_longer_than_the_context_is_refused(released):
    nla, _, _ = released
    with pytest.raises(InputError, match="the context 256; shorten it"):
        nla.reconstruct(["fine", "x" * 300])


def test_greedy_tokens_are_those_of_generate(released, acts):
    nla, whole, tokenizer = released
    stop = nla.verbalizer.stop_ids
    found = nla.generate(acts, max_new_tokens=24, batch_size=3)
    for row, act in enumerate(acts):
        expected = reference.greedy(whole, tokenizer, act, 24, stop)
        assert found.ids[row][found.mask[row]].tolist() == expected


def test_layer_is_the_last_block_kept(released):
    nla, _, _ = released
    assert nla.layer == checkpoints.LAYER
    assert nla.site == "blocks.1.hook_resid_post"
    assert nla.base == "some/base"


def test_round_trip_keeps_everything(released, acts, tmp_path):
    nla, _, _ = released
    nla.save_pretrained(tmp_path)
    again = NLA.from_pretrained(tmp_path / "av", tmp_path / "ar")
    assert again.verbalizer.prompt == nla.verbalizer.prompt
    assert again.verbalizer.injection.config == nla.verbalizer.injection.config
    assert again.verbalize(acts, max_new_tokens=6) == nla.verbalize(acts, max_new_tokens=6)
    torch.testing.assert_close(again.reconstruct(TEXTS), nla.reconstruct(TEXTS), rtol=0, atol=0)


def test_sliding_window_shorter_than_the_text_is_at_work(tmp_path):
    """The equalities above hold with a window of 8 tokens; without it Gemma 3 gives other vectors."""
    vectors = []
    for window in (8, 256):
        av, ar = checkpoints.write_pair(tmp_path / str(window), "gemma3")
        for folder in (av, ar):
            config = json.loads((folder / "config.json").read_text())
            assert config["sliding_window"] == 8
            (folder / "config.json").write_text(json.dumps({**config, "sliding_window": window}))
        vectors.append(NLA.from_pretrained(av, ar).reconstruct(TEXTS))
    assert not torch.allclose(*vectors, atol=1e-3)


# One line each for whatever is wrong. The pair is written once; every test damages its own copy.


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    checkpoints.write_pair(folder, "llama")
    return folder


@pytest.fixture
def pair(template, tmp_path):
    import shutil

    shutil.copytree(template, tmp_path / "pair")
    return tmp_path / "pair" / "av", tmp_path / "pair" / "ar"


def refused(pair, match):
    with pytest.raises(InputError, match=match) as caught:
        NLA.from_pretrained(*pair)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "changes", "match"),
    [
        (0, {"injection_scael": 3}, "unknown key .*'injection_scael'.*nearest: injection"),
        (0, {"tokens": {"marker": "x"}}, "unknown key under tokens"),
        (1, {"extraction": {"mse_scal": 3}}, "unknown key under extraction.*mse_scale"),
        (0, {"extraction": {"injection_scale": ...}}, "no extraction.injection_scale"),
        (0, {"extraction": {"injection_scale": -1}}, "injection_scale is -1"),
        (0, {"extraction": {"injection_scale": "big"}}, "injection_scale is 'big'"),
        (0, {"kind": "nla_dataset"}, "unknown key in .*base_checkpoint"),
        (0, {"kind": "nla_other"}, "kind 'nla_other'"),
        (0, {"schema_version": 3}, "schema_version 3"),
        (0, {"role": "judge"}, "unknown role"),
        (0, {"role": "ar"}, "holds the 'ar' part"),
        (0, {"d_model": ...}, "d_model None"),
        (0, {"d_model": 64}, "d_model 32, its sidecar says 64"),
        (1, {"d_model": 64}, "d_model 32, its sidecar says 64"),
        (0, {"tokens": {"injection_token_id": 9}}, "injection token is 9"),
        (0, {"tokens": {"injection_left_neighbor_id": 9}}, "neighbours are"),
        (0, {"tokens": {"injection_right_neighbor_id": 9}}, "neighbours are"),
        (0, {"tokens": {"injection_char": "ab"}}, "must be exactly one"),
        (0, {"tokens": {"injection_char": ...}}, "lacks the verbalizer's template or the injection character"),
        (0, {"tokens": {"injection_char": 7}}, "injection_char is 7"),
        (0, {"tokens": {"critic_suffix_ids": "no"}}, "must be a list"),
        (1, {"tokens": {"critic_suffix_ids": [4, 5]}}, "suffix is"),
        (0, {"prompt_templates": {"av": "no marker here"}}, "holds {injection_char} 0 times"),
        (0, {"prompt_templates": {"av": "{injection_char} {injection_char}"}}, "2 times"),
        (0, {"prompt_templates": {"av": "\u320e and {injection_char}."}}, "holds the injection character"),
        (1, {"prompt_templates": {"ar": "{explanation}."}}, "1 token after the explanation; none or two"),
        (1, {"extraction_layer_index": 2}, "has 2 blocks, layer 2 needs 3|layer 1, the reconstructor of layer 2"),
        (0, {"extraction_layer_index": 2}, "verbalizer is of layer 2, the reconstructor of layer 1"),
        (0, {"critic": {"extraction_layer_index": 0}}, "several layers"),
        (0, {"tokens": [1]}, "tokens is a list"),
        (0, {"injection": {"kind": "constnat"}}, "unknown injection 'constnat'; nearest: constant"),
        (0, {"injection": {"kind": "affine"}}, "no weights at .*injection.safetensors"),
    ],
)
def test_sidecar_is_refused(pair, part, changes, match):
    edit_sidecar(pair[part], **changes)
    refused(pair, match)


def test_both_layers_wrong(pair):
    for part in pair:
        edit_sidecar(part, extraction_layer_index=2)
    refused(pair, "has 2 blocks, layer 2 needs 3")


def test_swapped_folders(pair):
    refused(pair[::-1], "swapped")


@pytest.mark.parametrize("content", ["a: [", "- 1", "", "\x00"])
def test_sidecar_that_is_no_mapping(pair, content):
    (pair[0] / "nla_meta.yaml").write_text(content)
    refused(pair, "not valid YAML|must be a mapping")


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("name", ["nla_meta.yaml", "config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file(pair, part, name):
    (pair[part] / name).unlink()
    if name == "tokenizer.json":
        (pair[part] / "tokenizer_config.json").unlink()
    refused(pair, "no nla_meta.yaml|no config.json|no weights|no usable tokenizer")


@pytest.mark.parametrize(("part", "name"), [(0, "model"), (1, "model"), (1, "value_head")])
def test_truncated_weights(pair, part, name):
    path = pair[part] / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(pair, "is not a whole safetensors file")


@pytest.mark.parametrize(("part", "name", "pickle"), [(0, "model", "pytorch_model"), (1, "value_head", "value_head")])
def test_pickles_are_never_read(pair, part, name, pickle):
    (pair[part] / f"{name}.safetensors").unlink()
    torch.save({"weight": torch.eye(zoo.D_MODEL)}, pair[part] / f"{pickle}.bin")
    refused(pair, "pickle")


def test_pickle_under_the_name_of_safetensors(pair):
    torch.save({"weight": torch.eye(zoo.D_MODEL)}, pair[1] / "value_head.safetensors")
    refused(pair, "is not a whole safetensors file")


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ({"weight": torch.eye(8)}, "a head is one tensor 'weight' of shape"),
        ({"bias": torch.eye(zoo.D_MODEL)}, "a head is one tensor 'weight'"),
        ({"weight": torch.eye(zoo.D_MODEL), "bias": torch.zeros(zoo.D_MODEL)}, "a head is one tensor"),
        ({"weight": torch.full((zoo.D_MODEL, zoo.D_MODEL), float("nan"))}, "NaN or infinite"),
    ],
)
def test_wrong_head(pair, weights, match):
    save_file(weights, pair[1] / "value_head.safetensors")
    refused(pair, match)


@pytest.mark.parametrize(("part", "lost"), [(0, "lm_head.weight"), (0, "model.norm.weight"), (1, "mlp.up_proj")])
def test_incomplete_weights_never_become_random(pair, part, lost):
    from safetensors.torch import load_file

    path = pair[part] / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if lost not in name}
    save_file(kept, path, {"format": "pt"})
    refused(pair, "lack . tensors .*incomplete")


def test_folder_that_does_not_exist(pair, tmp_path):
    refused((tmp_path / "nowhere", pair[1]), "is no folder")


def test_hub_id_offline(pair):
    refused((pair[0], "nobody/nothing"), "could not be had from the hub")


def test_sidecar_without_role_or_scales(pair):
    """Seen in the wild: the reconstructor's role and mse_scale missing."""
    edit_sidecar(pair[1], role=..., extraction=...)
    assert NLA.from_pretrained(*pair).layer == checkpoints.LAYER


@pytest.mark.parametrize(
    ("said", "norm"), [("sqrt_d_model", zoo.D_MODEL**0.5), ("8e1", 80.0), ("none", None), ("raw", None)]
)
def test_scale_vocabulary(pair, acts, said, norm):
    edit_sidecar(pair[0], extraction={"injection_scale": said})
    verbalizer = NLA.from_pretrained(*pair).verbalizer
    injected = verbalizer.prompt_embeddings(acts).detach()[:, verbalizer.prompt.places[0]]
    expected = acts.norm(dim=-1) if norm is None else torch.full((len(acts),), norm)
    torch.testing.assert_close(injected.norm(dim=-1), expected)


@pytest.mark.parametrize("kind", [None, "constant", "affine"])
def test_a_null_scale_is_refused_where_the_injection_needs_one(pair, kind):
    """Null may mean raw vectors, or that nobody wrote the scale down: files of both sorts exist."""
    edit_sidecar(pair[0], extraction={"injection_scale": None}, injection={} if kind is None else {"kind": kind})
    refused(pair, "null as extraction.injection_scale and there is no default for it")


def test_a_null_scale_is_right_for_additive_injection_and_can_be_overruled(pair, acts):
    edit_sidecar(pair[0], extraction={"injection_scale": None})
    given = NLA.from_pretrained(*pair, injection=InjectionConfig("raw")).verbalizer
    place = given.prompt.places[0]
    torch.testing.assert_close(given.prompt_embeddings(acts)[:, place], acts)
    edit_sidecar(pair[0], injection={"kind": "additive"})
    assert NLA.from_pretrained(*pair).verbalizer.injection.config.kind == "additive"


def test_raw_pairs_of_ours_say_so_and_older_ones_still_load(pair, tmp_path):
    NLA.from_pretrained(*pair, injection=InjectionConfig("raw")).save_pretrained(tmp_path / "new")
    folders = tmp_path / "new" / "av", tmp_path / "new" / "ar"
    assert yaml.safe_load((folders[0] / "nla_meta.yaml").read_text())["extraction"]["injection_scale"] == "raw"
    for said in ("raw", None):
        edit_sidecar(folders[0], extraction={"injection_scale": said})
        assert NLA.from_pretrained(*folders).verbalizer.injection.config.kind == "raw"


def test_newer_vocabulary_wins(pair):
    edit_sidecar(pair[0], prompt_templates={"actor": "Old {injection_char} one."})
    assert NLA.from_pretrained(*pair).verbalizer.prompt.template == checkpoints.AV_TEMPLATE


@pytest.mark.parametrize("count", [checkpoints.LAYER, checkpoints.LAYER + 1])
def test_both_meanings_of_schema_1_count(pair, count):
    edit_sidecar(pair[1], schema_version=1, extraction_layer_index=..., critic={"num_hidden_layers": count})
    assert NLA.from_pretrained(*pair).layer == checkpoints.LAYER
    edit_sidecar(pair[1], critic={"num_hidden_layers": 7})
    refused(pair, "has 2 blocks, its sidecar says 7")
