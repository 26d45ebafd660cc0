"""nanoNLA's repositories: merged verbalizers, adapters on them, and critics that may lack tokenizer and sidecar."""

import pytest
import torch
from safetensors.torch import load_file

from tests.nla.formats import reference
from tl_nla.errors import InputError
from tl_nla.nla import NLA
from tl_nla.nla.formats.testing import write_nanonla

pytest.importorskip("peft")


@pytest.fixture(scope="module", params=["merged", "rl_lora"])
def opened(request, tmp_path_factory):
    written = write_nanonla(tmp_path_factory.mktemp("pair"), request.param)
    choice = {"merged": None, "rl_lora": "p0.01"}[request.param]
    adapters = [] if choice is None else [written.folder / choice]
    return written, NLA.from_pretrained(written.folder, choice=choice), reference.with_adapters(written.base, *adapters)


def test_words_logits_and_vectors_are_those_of_the_recipe(opened):
    written, nla, model = opened
    told, tokenizer = reference.sidecar(written.base), reference.tokenizer_of(written.base)
    ids = reference.prompt_ids(tokenizer, told)
    assert nla.verbalizer.prompt.ids == ids
    assert nla.provenance["family"] == "nanonla"
    act = 5 * torch.randn(1, 32, generator=torch.Generator().manual_seed(3))

    def hook(part):
        return reference.adding(part, 1, reference.sites(ids, told["tokens"]), act)

    found = nla.generate(act, max_new_tokens=10)
    response = found.ids[0][found.mask[0]].tolist()
    assert response == reference.greedy(model, ids, hook, 10, nla.verbalizer.stop_ids)
    with torch.no_grad():
        ours = nla.verbalizer(act, torch.tensor([response]))[0]
    torch.testing.assert_close(ours, reference.logits(model, ids, response, hook), atol=1e-4, rtol=1e-4)
    head = load_file(written.ar / "value_head.safetensors")["weight"]
    critic = reference.with_adapters(written.base)
    if not nla.provenance["verbalizer"][1:]:
        expected = reference.vector(critic, tokenizer, told["prompt_templates"]["critic"], "words", 1, head)
        torch.testing.assert_close(nla.reconstruct(["words"])[0], expected, atol=1e-4, rtol=1e-4)


def test_a_penalty_has_to_be_chosen(opened):
    written, nla, _ = opened
    if written.folder.name.endswith("-rl-lora"):
        with pytest.raises(InputError, match=r"give choice= one of p0.0, p0.01"):
            NLA.from_pretrained(written.folder)
        again = NLA.from_pretrained(written.folder, written.ar, base=written.base, choice="p0.01")
        assert again.provenance["verbalizer"] == nla.provenance["verbalizer"]


def test_critics_may_share_sidecar_and_tokenizer(tmp_path):
    written = write_nanonla(tmp_path / "pair")
    expected = NLA.from_pretrained(written.folder).reconstruct(["some words"])
    for path in written.ar.iterdir():
        if path.name not in ("config.json", "model.safetensors", "value_head.safetensors"):
            path.unlink()
    torch.testing.assert_close(NLA.from_pretrained(written.folder, written.ar).reconstruct(["some words"]), expected)


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda av, ar: (ar / "value_head.safetensors").unlink(), "no weights at .*value_head"),
        (lambda av, ar: (av / "tokenizer.json").unlink(), "tokenizer"),
        (lambda av, ar: (av / "config.json").unlink(), "no config.json"),
        (lambda av, ar: av.rename(av.with_name("nanonla-tiny-av-multi16")), "name and shape of their tensors"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path, damage, match):
    written = write_nanonla(tmp_path / "pair")
    damage(written.folder, written.ar)
    folder = next(path for path in (tmp_path / "pair").iterdir() if "-av" in path.name)
    with pytest.raises(InputError, match=match) as caught:
        NLA.from_pretrained(folder, written.ar)
    assert "\n" not in str(caught.value)
