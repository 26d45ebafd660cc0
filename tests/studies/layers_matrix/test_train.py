"""Pairs of other layers: the same tokens and words with the states of each layer."""

import pytest
import torch

from docs.studies.layers_matrix.train import LayersConfig, layer_data, pair_of_layer
from docs.studies.tiny.rebuild import load_rebuilt
from lightning_modules.training.nla_training import load_pair
from tl_nla.storyworld.tiny import WEIGHTS

CONFIG = LayersConfig(documents=16, steps=1)


@pytest.fixture(scope="module")
def data():
    target = load_rebuilt(WEIGHTS / "target")
    return layer_data(target.model, target.tokenizer, range(1, 3), CONFIG, 0, 2)


def test_layers_share_tokens_and_words_but_not_states(data):
    one, two = data[1].train_states, data[2].train_states
    assert one.explanations == two.explanations
    assert torch.equal(one.position, two.position)
    assert torch.equal(one.document, two.document)
    assert not torch.allclose(one.acts, two.acts, atol=0.1)


def test_a_pair_is_taught_the_other_layer(data):
    pair, shipped = pair_of_layer(data[1], 1, CONFIG, 0), load_pair("tiny")
    assert (pair.layer, shipped.layer) == (1, 2)
    assert torch.equal(pair.mean, data[1].mean)
    for part in ("verbalizer", "reconstructor"):
        state, before = getattr(pair, part).state_dict(), getattr(shipped, part).state_dict()
        assert not all(torch.equal(value, before[name]) for name, value in state.items())
    same = pair_of_layer(data[2], 2, CONFIG, 0).verbalizer.state_dict()
    assert all(torch.equal(value, same[name]) for name, value in shipped.verbalizer.state_dict().items())
