"""Effects at some columns are those of a run that keeps all of them, and the other columns' logits are not computed."""

import pytest
import torch

from tests import zoo
from tl_nla.attribution import SkipConfig, all_components, few_columns, skip_effects
from tl_nla.attribution.beside import NotBesideError
from tl_nla.attribution.few_columns import effects_at

COLUMNS = [2, 5, 8]


def assert_same(found, expected):
    assert found.components == expected.components
    for name in ("kl", "percentile", "token_weight"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-4, rtol=1e-3)
    for name in ("flip", "clean_top", "skipped_top"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.fixture(params=zoo.FAMILIES)
def model(request, get_model):
    return get_model("bridge", request.param)


def test_they_are_those_of_a_whole_run(model):
    tokens, parts = zoo.tokens(2, 10), all_components(model)
    expected = skip_effects(model, tokens, parts, positions=COLUMNS, how=SkipConfig(top_k=4)).only(COLUMNS)
    assert_same(effects_at(model, tokens, parts, COLUMNS, 4), expected)


def test_where_copies_cannot_run_beside_the_text_all_columns_are_kept(get_model, monkeypatch):
    model, tokens = get_model("bridge", "llama"), zoo.tokens(2, 10)
    whole = few_columns.effects_of_run
    runs = []

    def refuses_few(model, clean, wanted):
        runs.append(clean.columns)
        if clean.columns is not None:
            raise NotBesideError("not here")
        return whole(model, clean, wanted)

    monkeypatch.setattr(few_columns, "effects_of_run", refuses_few)
    expected = skip_effects(model, tokens, ["blocks.1.mlp"], positions=COLUMNS, how=SkipConfig(top_k=4)).only(COLUMNS)
    assert_same(effects_at(model, tokens, ["blocks.1.mlp"], COLUMNS, 4), expected)
    assert runs == [tuple(COLUMNS), None]
