from dataclasses import replace

import pytest

from lightning_modules.data.oracle_config import QUICK
from lightning_modules.data.oracle_data import capture
from tests import zoo
from tl_nla.benchmark.oracle_score import frequent_sources
from tl_nla.model.sites import Site
from tl_nla.model.targets import load_target
from tl_nla.storyworld.documents import world_documents


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "target"
    zoo.save_target(path)
    return load_target(str(path))


def test_the_most_frequent_sources_of_an_unseen_head_are_those_of_all_heads(target):
    data = capture(target, world_documents(6, 0), world_documents(2, 7), replace(QUICK.sizes, skip_documents=0), 0)
    told = zip(data.train.site.tolist(), data.train.answers, strict=True)
    listed = [(data.train.sites[site], word) for site, answer in told if "sources" in answer
              for word in answer["sources"].tokens]  # fmt: skip
    found = frequent_sources(data.train, data.held.sites)
    assert listed
    for site in data.held.sites:
        own = [word for at, word in listed if at == site] or [word for _, word in listed]
        counts = sorted((own.count(word) for word in set(own)), reverse=True)
        assert [own.count(word) for word in found[site]] == counts[:3]
    assert any(site in data.untrained and found[site] for site in data.held.sites)


def test_trainings_of_one_kind_see_no_other(target):
    train, held = world_documents(3, 0), world_documents(2, 7)
    config = replace(QUICK.sizes, skip_documents=0, kinds=("head",), heldout_heads=0.25)
    data = capture(target, train, held, config, 0)
    heads = {site for site in data.held.sites if Site.parse(site).kind == "head"}
    assert set(data.train.sites) < heads
    assert set(data.untrained) == set(data.held.sites) - set(data.train.sites)
    whole = capture(target, train, held, replace(config, kinds=(), heldout_heads=0.0), 0)
    assert whole.train.sites == whole.held.sites == data.held.sites
    assert whole.untrained == ()
