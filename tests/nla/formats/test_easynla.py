"""EasyNLA's layouts give what its recipe gives, written out in :mod:`tests.nla.formats.reference`."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.nla.formats import reference
from tl_nla.errors import InputError
from tl_nla.nla import NLA
from tl_nla.nla.formats.testing import write_easynla

pytest.importorskip("peft")
TEXTS = ["Mary has the ball.", "x", "A longer one"]
KINDS = [("pair", "qwen3"), ("pair", "llama"), ("merged_warm_start", "qwen3"), ("stacked", "qwen3"),
         ("prefix_ordered", "gemma3")]  # fmt: skip


@pytest.fixture(scope="module")
def acts():
    return 30 * torch.randn(3, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=KINDS, ids=str)
def opened(request, tmp_path_factory):
    """A loaded pair with its reference verbalizer, tokenizer, sidecar and prefill."""
    layout, kind = request.param
    written = write_easynla(tmp_path_factory.mktemp("pair"), layout, kind)
    root, base = written.folder, written.base
    stack = {
        "pair": (base, root / "av"),
        "merged_warm_start": (root / "av_base", root / "av_rl_adapters" / "iter_000300"),
        "stacked": (base, root / "av_sft_lora", root / "av_rl_lora_step400"),
        "prefix_ordered": (base, root / "rl_av_lora_iter400"),
    }[layout]
    told = reference.sidecar(root if layout == "merged_warm_start" else stack[-1])
    prefill = "<explanation>\n" if layout == "stacked" else ""
    return written, NLA.from_pretrained(root), reference.with_adapters(*stack), told, prefill


def hook_of(ids, told, act):
    return lambda model: reference.adding(model, 1, reference.sites(ids, told["tokens"]), [act])


def test_prompt_ids_marker_and_neighbours(opened):
    written, nla, _, told, prefill = opened
    ids = reference.prompt_ids(nla.verbalizer.tokenizer, told, prefill)
    prompt = nla.verbalizer.prompt
    assert prompt.ids == ids
    assert prompt.places == reference.sites(ids, told["tokens"])
    assert nla.layer == written.layer == 1
    assert nla.provenance["family"] == "easynla"


def test_nothing_enters_through_the_embeddings(opened, acts):
    _, nla, model, _, _ = opened
    plain = model.get_input_embeddings()(torch.tensor([nla.verbalizer.prompt.ids]))
    torch.testing.assert_close(nla.verbalizer.prompt_embeddings(acts[:1]), plain)


def test_logits(opened, acts):
    _, nla, model, told, prefill = opened
    ids = reference.prompt_ids(nla.verbalizer.tokenizer, told, prefill)
    responses, mask = nla.verbalizer.encode_responses(["short", "A longer one.", "y"])
    with torch.no_grad():
        ours = nla.verbalizer(acts, responses, mask)
    for row, act in enumerate(acts):
        length = int(mask[row].sum())
        expected = reference.logits(model, ids, responses[row, :length].tolist(), hook_of(ids, told, act))
        torch.testing.assert_close(ours[row, :length], expected, atol=1e-4, rtol=1e-4)


def test_greedy_words(opened, acts):
    _, nla, model, told, prefill = opened
    ids = reference.prompt_ids(nla.verbalizer.tokenizer, told, prefill)
    found = nla.generate(acts, max_new_tokens=12)
    for row, act in enumerate(acts):
        expected = reference.greedy(model, ids, hook_of(ids, told, act), 12, nla.verbalizer.stop_ids)
        assert found.ids[row][found.mask[row]].tolist() == expected


def test_vectors(opened):
    written, nla, _, told, _ = opened
    critics = sorted(path for path in written.folder.glob("*") if path.name.startswith(("ar", "rl_critic")))
    if (critics[0] / "ar_meta.json").exists():
        model, head = reference.lora_critic(written.base, critics[0])
    else:
        model, head = reference.with_adapters(written.base), load_file(critics[0] / "value_head.safetensors")["weight"]
    tokenizer, template = reference.tokenizer_of(critics[0]), told["prompt_templates"]["critic"]
    ours = nla.reconstruct(TEXTS)
    for row, text in enumerate(TEXTS):
        expected = reference.vector(model, tokenizer, template, text, written.layer, head)
        torch.testing.assert_close(ours[row], expected, atol=1e-4, rtol=1e-4)


def test_round_trip_in_our_own_format(opened, acts, tmp_path):
    _, nla, _, _, _ = opened
    nla.save_pretrained(tmp_path)
    again = NLA.from_pretrained(tmp_path)
    assert again.verbalizer.prompt == nla.verbalizer.prompt
    assert again.verbalizer.answers == nla.verbalizer.answers
    assert again.verbalize(acts, max_new_tokens=6) == nla.verbalize(acts, max_new_tokens=6)
    torch.testing.assert_close(again.reconstruct(TEXTS), nla.reconstruct(TEXTS), atol=1e-5, rtol=1e-5)


def test_explanations_are_taken_as_each_layout_writes_them(opened):
    written, nla, _, _, _ = opened
    form = nla.verbalizer.answers.form
    expected = {"tags": ("<explanation>\nA\n</explanation> B", "A"), "opened": ("A\n</explanation> B", "A"),
                "lines": ("A\n\n B \n", "A\nB")}  # fmt: skip
    response, text = expected[form]
    assert nla.verbalizer.answers.extract(response) == text
    assert form == {"stacked": "opened", "prefix_ordered": "lines"}.get(_layout(written), "tags")


def _layout(written):
    names = {path.name for path in written.folder.iterdir()}
    return "stacked" if "av_sft_lora" in names else "prefix_ordered" if "warmstart_av_lora" in names else ""


# Choices, and one line each for whatever is wrong.


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    return {layout: write_easynla(tmp_path_factory.mktemp(layout), layout) for layout in ("pair", "merged_warm_start")}


@pytest.fixture
def copied(templates, tmp_path):
    """``copied(layout)``: a fresh copy to damage; its adapters still name the template's base."""

    def make(layout="pair"):
        return shutil.copytree(templates[layout].folder, tmp_path / layout)

    return make


def test_the_advised_step_is_taken_unless_another_is_named(copied):
    folder = copied("merged_warm_start")
    named = [NLA.from_pretrained(folder, choice=choice).provenance["verbalizer"][1] for choice in (None, "800", "100")]
    assert [name.rsplit("_", 1)[1] for name in named] == ["000300", "000800", "000100"]
    with pytest.raises(InputError, match=r"choice '7' fits 0 of iter_000100, iter_000300, iter_000800"):
        NLA.from_pretrained(folder, choice="7")


def test_warm_start_as_adapter(copied, templates, acts):
    """Without the merged warm start, its adapter and the RL adapter are both active."""
    folder = copied("merged_warm_start")
    merged = NLA.from_pretrained(folder).verbalize(acts, max_new_tokens=4)
    shutil.rmtree(folder / "av_base")
    with pytest.raises(InputError, match=r"lacks av_base/ or av_warmstart_lora/"):
        NLA.from_pretrained(folder)
    warm = folder / "av_warmstart_lora" / "iter_0003864"
    shutil.copytree(templates["pair"].folder / "av", warm)
    found = NLA.from_pretrained(folder, base=templates["pair"].base)
    adapters = (warm, folder / "av_rl_adapters" / "iter_000300")
    model = reference.with_adapters(templates["pair"].base, *adapters)
    torch.testing.assert_close(found.verbalizer.model.state_dict(), model.state_dict(), atol=1e-6, rtol=1e-5)
    assert merged


def test_thinking_on_is_refused_by_the_neighbours_or_changes_the_prompt(copied):
    folder = copied()
    off, on = (NLA.from_pretrained(folder, thinking=told).verbalizer.prompt for told in (None, True))
    assert on.ids == off.ids[: len(on.ids)]
    assert len(off.ids) > len(on.ids)  # the empty think block


@pytest.mark.parametrize("form", ["backbone.model.", "backbone.", "", "backbone._orig_mod.base_model.model.model."])
def test_critic_adapters_under_other_prefixes(copied, form):
    folder = copied()
    expected = NLA.from_pretrained(folder).reconstruct(TEXTS)
    path = folder / "ar" / "ar_lora_value_head.safetensors"
    front = "backbone.base_model.model."
    save_file({key.replace(front, form).replace(".default", ""): value for key, value in load_file(path).items()}, path)
    torch.testing.assert_close(NLA.from_pretrained(folder).reconstruct(TEXTS), expected)


def test_adapters_of_a_model_that_sees_images(copied):
    folder = copied()
    expected = NLA.from_pretrained(folder).verbalizer.model.state_dict()
    path = folder / "av" / "adapter_model.safetensors"
    save_file({key.replace("model.layers", "model.language_model.layers"): value
               for key, value in load_file(path).items()}, path)  # fmt: skip
    torch.testing.assert_close(NLA.from_pretrained(folder).verbalizer.model.state_dict(), expected)


def test_final_norm_is_kept_where_the_file_does_not_say(copied):
    folder = copied()
    stripped = NLA.from_pretrained(folder).reconstruct(TEXTS)
    _settings(folder / "ar" / "ar_meta.json", final_norm_stripped=...)
    assert not torch.allclose(NLA.from_pretrained(folder).reconstruct(TEXTS), stripped, atol=1e-2)


def _settings(path, **changes):
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def _sidecars(folder, change):
    for path in folder.rglob("nla_meta.yaml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def _tensors(path, change):
    save_file(change(load_file(path)), path)


AR, AV = "ar/ar_lora_value_head.safetensors", "av/adapter_model.safetensors"
DAMAGES = {
    "no_adapter": (lambda f: (f / AV).unlink(), "no weights at .*adapter_model"),
    "no_head_file": (lambda f: (f / AR).unlink(), "no config.json|no weights"),
    "no_settings_of_the_critic": (lambda f: (f / "ar/ar_meta.json").unlink(), "ar_meta.json cannot be read"),
    "no_sidecar": (lambda f: [path.unlink() for path in f.rglob("nla_meta.yaml")], "no nla_meta.yaml|without nla_meta"),
    "no_tokenizer_anywhere": (
        lambda f: (_settings(f / "av/adapter_config.json", base_model_name_or_path=str(f / "ar")),
                   [path.unlink() for path in f.rglob("tokenizer*")]), "no usable tokenizer"),
    "no_head": (lambda f: _tensors(f / AR, lambda t: {k: v for k, v in t.items() if "head" not in k}), "a head is one"),
    "head_of_another_width": (lambda f: _tensors(f / AR, lambda t: {**t, "value_head.weight": torch.eye(8)}), "a head"),
    "head_with_nan": (
        lambda f: _tensors(f / AR, lambda t: {**t, "value_head.weight": torch.full((32, 32), torch.nan)}), "NaN"),
    "adapter_of_another_shape": (
        lambda f: _tensors(f / AV, lambda t: {k: (v[:2] if "lora_A" in k else v[:, :2]).contiguous()
                                     for k, v in t.items()}),
        "does not fit its base"),
    "adapter_of_another_base": (
        lambda f: _tensors(f / AV, lambda t: {k.replace("layers.3", "layers.9"): v for k, v in t.items()}),
        "does not fit its base; .* tensors have no module"),
    "critic_of_another_base": (
        lambda f: _tensors(f / AR, lambda t: {k.replace("up_proj", "other_proj"): v for k, v in t.items()}),
        "does not fit its base"),
    "base_of_another_machine": (
        lambda f: _settings(f / "av/adapter_config.json", base_model_name_or_path="/cluster/models/base"),
        "is no folder here; give its folder or hub id as base="),
    "wrong_count_of_blocks": (lambda f: _settings(f / "ar/ar_meta.json", ar_num_layers=7), "says 7 blocks; 2 "),
    "no_scale_of_the_critic": (lambda f: _settings(f / "ar/ar_meta.json", lora_alpha=...), "lacks lora_alpha"),
    "another_width": (lambda f: _sidecars(f, lambda c: c["extraction"].update(d_model=64)), "d_model|shape"),
    "another_layer": (lambda f: _sidecars(f, lambda c: c["extraction"].update(layer_index=3)), "2 blocks; 4 "),
    "unknown_key": (lambda f: _sidecars(f, lambda c: c.update(layr=3)), "unknown key"),
    "unknown_key_inside": (lambda f: _sidecars(f, lambda c: c["extraction"].update(layr=3)), "unknown key under"),
    "normalised_vectors": (lambda f: _sidecars(f, lambda c: c["extraction"].update(norm="unit")), "norm is 'unit'"),
    "another_tokenizer": (
        lambda f: _sidecars(f, lambda c: c["tokens"].update(injection_left_neighbor_id=3)), "neighbours are"),
    "another_marker": (lambda f: _sidecars(f, lambda c: c["tokens"].update(injection_token_id=3)), "token is 3"),
    "marker_of_several_tokens": (
        lambda f: _sidecars(f, lambda c: c["tokens"].update(injection_char="\u3210")), "must be exactly one"),
    "no_template": (lambda f: _sidecars(f, lambda c: c.update(prompt_templates={})), "lacks the .*template"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told_in_one_line(copied, name):
    damage, match = DAMAGES[name]
    folder = copied()
    damage(folder)
    with pytest.raises(InputError, match=match) as caught:
        NLA.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_verbalizer_alone_is_refused(copied):
    folder = copied()
    with pytest.raises(InputError, match=r"has no reconstructor beside it.*ar="):
        NLA.from_pretrained(shutil.copytree(folder / "av", folder.parent / "alone"))


@pytest.mark.parametrize(("end", "form"), [("<explanation>\n", "opened"), ("</think>\n\n", "tags")])
def test_a_rendered_prompt_says_whether_the_tag_stands_in_it(tmp_path, end, form):
    from tl_nla.nla.formats import plan_pair

    written = write_easynla(tmp_path / "pair", "stacked")
    rendered = {"prompt": {"rendered": f"<concept>\u320e</concept> Now.{end}"}, "other": [1, 2]}
    (written.folder / "nla_config.json").write_text(json.dumps(rendered))
    assert plan_pair(written.folder).protocol.answers.form == form
