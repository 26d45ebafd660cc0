"""The rate is the best of short trainings of copies, and what a recipe has found is kept."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from docs.studies.tiny.tokenizer import save_tokenizer
from lightning_modules.training import oracle_recipe
from lightning_modules.training.oracle_recipe import OracleRecipe, train_oracle
from lightning_modules.training.rate_search import RATES, FoundRate, find_rate
from lightning_modules.training.refinement import RefineConfig
from lightning_modules.training.stage import StageConfig, StageSpec, run_stage
from tests import zoo
from tests.lightning_modules.quick import quick
from tl_nla.errors import InputError
from tl_nla.model.targets import load_target
from tl_nla.storyworld.documents import world_documents


def start(scale, width=16):
    """A pretrained layer whose weights have a size, and a stage that asks for a small change of it."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(width, width, bias=False)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.randn(width, width, generator=generator))
    wanted = layer.weight.detach() + 0.3 * scale * torch.randn(width, width, generator=generator)
    inputs = torch.randn(2000, width, generator=generator)

    def spec(module):
        def loss(rows):
            return (module(inputs[rows]) - inputs[rows] @ wanted.T).square().mean() / scale**2

        return StageSpec(loss, len(inputs), StageConfig(200, 16, 0.02))

    return layer, spec


def test_small_weights_get_a_small_rate_and_the_start_stays_as_it_is():
    found = {}
    for scale in (0.002, 0.3):
        layer, spec = start(scale)
        before = layer.weight.clone()
        found[scale] = find_rate(layer, spec)
        assert torch.equal(layer.weight, before)
    assert found[0.002].rate < found[0.3].rate
    assert found[0.3].best == RATES[0]
    assert found[0.3].rate == pytest.approx(RATES[0] * 0.2**0.7)  # a fifth of the steps were tried


def test_the_rate_found_is_better_over_the_whole_stage_than_the_largest():
    losses = {}
    rate = find_rate(*start(0.005)).rate
    for tried in (rate, RATES[0]):
        layer, spec = start(0.005)
        how = spec(layer)
        run_stage(layer, dataclasses.replace(how, config=dataclasses.replace(how.config, learning_rate=tried)))
        losses[tried] = float(how.loss(torch.arange(2000)).detach())
    assert losses[rate] < losses[RATES[0]]


def test_the_search_ends_when_smaller_rates_only_get_worse():
    told = []
    found = find_rate(*start(0.3), tell=lambda done, of: told.append((done, of)))
    assert told == [(1, 5), (2, 5), (3, 5)]
    assert list(found.losses) == [0.04, 0.02, 0.01]


def test_a_loss_that_is_no_number_is_never_the_best():
    layer, spec = start(0.3)
    broken = dataclasses.replace(spec(layer), loss=lambda rows: layer.weight.sum() * torch.nan)
    with pytest.raises(InputError, match="no learning rate"):
        find_rate(layer, lambda module: dataclasses.replace(broken, loss=lambda rows: module.weight.sum() * torch.nan))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tokenizer = save_tokenizer(path)
    zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512).save_pretrained(path)
    return path


def test_a_recipe_without_a_rate_finds_one_once_and_trains_everything_with_it(folder, tmp_path, monkeypatch):
    target, stories = load_target(str(folder)), world_documents(8, 0)
    config = quick(sources=None, learning_rate=None, refine=RefineConfig(passes=0))
    told = []
    recipe = OracleRecipe(
        target, folder, stories[:5], stories[5:], config, 0, tmp_path / "kept", tell=lambda *s: told.append(s)
    )
    monkeypatch.setattr(oracle_recipe, "find_rate", lambda *given, tell: tell(1, 1) or FoundRate(0.0025, 0.01, {}))
    trained = train_oracle(recipe)
    assert trained.recipe.config.learning_rate == 0.0025
    assert trained.recipe.stage(4).learning_rate == 0.0025
    assert ("rate", 1, 1) in told
    assert json.loads((tmp_path / "kept" / "rate.json").read_text())["words"] == ["0.0025"]
    monkeypatch.setattr(oracle_recipe, "find_rate", lambda *given, **more: pytest.fail("searched again"))
    again = train_oracle(recipe)
    for name, value in trained.oracle.state_dict().items():
        assert torch.equal(again.oracle.state_dict()[name], value)
    with pytest.raises(InputError, match="learning_rate is None"):
        _ = config.rate
