"""The verbalizer adapter with a stand-in and with a real tiny NLA."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from tests import zoo
from tl_nla import VerbalizerAdapter, attach
from tl_nla.errors import InputError
from tl_nla.metrics.functional import normalise
from tl_nla.model.reading import read

SITE = "blocks.1.hook_resid_post"


class Parrot:
    """Writes the number of each vector and reads it back with an error of known size."""

    d_model = zoo.D_MODEL

    def __init__(self, mean=None, scale=1.0):
        self.calls, self.scale = 0, scale
        if mean is not None:
            self.mean = mean

    def verbalize(self, acts):
        self.calls, self.acts = self.calls + 1, acts
        return [f"vector {i}" for i in range(len(acts))]

    def reconstruct(self, texts):
        shift = torch.zeros_like(self.acts)
        shift[:, 0] = self.scale
        return self.acts[[int(text.split()[1]) for text in texts]] + shift


def run(model, nla, *arguments, tokens=None, **settings):
    adapter = VerbalizerAdapter(nla, *arguments)
    tokens = zoo.tokens() if tokens is None else tokens
    with attach(model, adapter):
        model(tokens)
    return adapter.results(tokens, **settings), read(model, tokens, list(adapter.sites), adapter.positions)


def test_rows_say_where_what_and_how_well(model):
    mean = torch.randn(zoo.D_MODEL)
    rows, reading = run(model, Parrot(mean), SITE, [0, -1])
    assert [(row.site, row.batch, row.position) for row in rows] == [(SITE, b, p) for b in (0, 1) for p in (0, 6)]
    assert [row.token for row in rows] == [f"w{i}" for i in zoo.tokens()[:, [0, -1]].flatten().tolist()]
    assert [row.text for row in rows] == [f"vector {i}" for i in range(4)]
    for row, act in zip(rows, reading[SITE], strict=True):
        found = act.clone()
        found[0] += 1
        assert row.cosine == pytest.approx(torch.cosine_similarity(found, act, dim=0).item(), abs=1e-5)
        error = (normalise(found) - normalise(act)).square().sum()
        spread = (normalise(act) - mean).square().sum()
        assert row.fve == pytest.approx((1 - error / spread).item(), abs=1e-4)
    assert rows[0].as_dict()["text"] == "vector 0"
    with pytest.raises(FrozenInstanceError):
        rows[0].text = "else"


def test_everything_is_explained_in_one_batch(model):
    nla, sites = Parrot(), [SITE, "blocks.2.mlp"]
    rows, reading = run(model, nla, sites)
    assert nla.calls == 1
    assert torch.equal(nla.acts, torch.cat([reading[site] for site in sites]))
    assert [row.site for row in rows] == [SITE] * 14 + ["blocks.2.mlp"] * 14
    assert all(row.fve is None and row.closed for row in rows)


def test_without_tokenizer_or_ids_the_token_is_unknown():
    model = zoo.bridge("gpt2", with_tokenizer=False)
    assert {row.token for row in run(model, Parrot(), SITE)[0]} == {None}


def test_another_width_is_refused(model):
    nla = Parrot()
    nla.d_model = 31
    adapter = VerbalizerAdapter(nla, SITE)
    with pytest.raises(InputError, match="size 31, this model has d_model 32"), attach(model, adapter):
        pass
    assert not zoo.hook_counts(model)


@pytest.fixture(scope="module")
def storyworld_llama():
    from docs.studies.tiny.tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    return zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512), tokenizer


def test_with_a_real_nla_while_generating(storyworld_llama, llama):
    from tl_nla.nla import NLA, InjectionConfig

    nla = NLA.create(*storyworld_llama, 1, InjectionConfig("sqrt_d")).eval()
    adapter = VerbalizerAdapter(nla, nla.site, positions=[0, -1, 7], generated=True)
    with attach(llama, adapter):
        llama.generate(zoo.tokens(2, 6), max_new_tokens=4, do_sample=False, stop_at_eos=False, verbose=False)
    acts = adapter.reading()[nla.site]
    rows = adapter.results(max_new_tokens=5)
    assert [row.position for row in rows] == [0, 5, 7] * 2
    assert [row.text for row in rows] == nla.verbalize(acts, max_new_tokens=5)
    generation = nla.generate(acts, max_new_tokens=5)
    assert [row.closed for row in rows] == generation.extracted.tolist()
    expected = torch.cosine_similarity(nla.reconstruct(generation.texts), acts).tolist()
    assert [row.cosine for row in rows] == pytest.approx(expected, abs=1e-5)
    assert all(row.token is not None for row in rows)


def test_activations_that_are_no_numbers_are_refused(storyworld_llama, llama):
    from tl_nla.nla import NLA, InjectionConfig

    nla = NLA.create(*storyworld_llama, 1, InjectionConfig("sqrt_d")).eval()
    adapter = VerbalizerAdapter(nla, nla.site)
    broken = (nla.site, lambda activation, hook: activation * float("nan"))
    with llama.hooks(fwd_hooks=[broken]), attach(llama, adapter):
        llama(zoo.tokens())
    with pytest.raises(InputError, match=r"(?i)nan|finite"):
        adapter.results()
