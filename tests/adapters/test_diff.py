import pytest
import torch

from tests import zoo
from tests.oracle.tiny import make_oracle
from tl_nla.adapters import attach
from tl_nla.adapters.diff import DiffAdapter, HeadDiffAdapter, LayerDiffAdapter
from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.oracle.labels import StrengthReference


@pytest.fixture(scope="module")
def oracle():
    return make_oracle()


def test_explains_the_writes_that_were_read(model, oracle):
    tokens = zoo.tokens()
    sites = ["blocks.1.attn.head.2", "blocks.0.mlp"]
    adapter = DiffAdapter(oracle, sites, [2, -1])
    with attach(model, adapter):
        model(tokens)
    found = adapter.results(tokens, max_new_tokens=4)
    reading = read(model, tokens, sites, [2, -1])
    assert [(row.site, row.batch, row.position) for row in found] == [
        (site, batch, position) for site in sites for batch in (0, 1) for position in (2, 6)
    ]
    writes = torch.cat([reading[site] for site in sites])
    before = torch.cat([reading.before(site) for site in sites])
    texts = oracle.explain(writes, before=before, max_new_tokens=4)
    assert [row.text for row in found] == texts
    back = oracle.reconstruct(texts)
    for row, write, state, again in zip(found, writes, before, back, strict=True):
        assert row.norm == pytest.approx(float(write.norm()), rel=1e-4)
        assert row.relative_norm == pytest.approx(float(write.norm() / state.norm()), rel=1e-4)
        assert row.norm_ratio == pytest.approx(float(again.norm() / write.norm()), rel=1e-3)
        assert row.cosine == pytest.approx(float(torch.cosine_similarity(write, again, dim=0)), abs=1e-4)
        assert row.percentile is None
        assert row.token == f"w{tokens[row.batch, row.position]}"


def test_layers_heads_and_generation(llama, oracle):
    adapters = [LayerDiffAdapter(oracle, 1), LayerDiffAdapter(oracle, 1, "attn"), HeadDiffAdapter(oracle, 2, 3)]
    assert [str(adapter.sites[0]) for adapter in adapters] == ["blocks.1", "blocks.1.attn", "blocks.2.attn.head.3"]
    with attach(llama, *adapters):
        llama.generate(zoo.tokens(1, 4), max_new_tokens=3, do_sample=False, verbose=False, stop_at_eos=False)
    for adapter in adapters:
        assert [row.position for row in adapter.results(max_new_tokens=2)] == [0, 1, 2, 3, 4, 5]


def test_percentiles_need_a_reference_of_the_site(llama):
    oracle = make_oracle()
    tokens = zoo.tokens()
    reading = read(llama, tokens, ["blocks.1.mlp"])
    oracle.strength = StrengthReference.measure(
        {"blocks.1.mlp": (reading["blocks.1.mlp"], reading.before("blocks.1.mlp"))}
    )
    adapter = DiffAdapter(oracle, ["blocks.1.mlp", "blocks.2.mlp"], [3])
    with attach(llama, adapter):
        llama(tokens)
    known, unknown = (adapter.results(max_new_tokens=2)[i].percentile for i in (0, -1))
    assert 0 <= known <= 100
    assert unknown is None


def test_refusals(llama, oracle):
    with pytest.raises(InputError, match="is a state"):
        DiffAdapter(oracle, "blocks.0.hook_resid_pre")
    with pytest.raises(InputError, match="part of a layer"):
        LayerDiffAdapter(oracle, 0, "head")
    with pytest.raises(InputError, match="writes of size 24"):
        DiffAdapter(make_oracle(d_act=24), "blocks.0").hooks(llama)
