import dataclasses

import pytest
import torch

from docs.studies.faithfulness.withholding import Said, WithholdingConfig, first_rows, trained_reader
from docs.studies.tiny.rebuild import RebuildConfig
from docs.studies.warm_pairs import WarmPairs, matmul_precision
from tl_nla.errors import InputError
from tl_nla.storyworld.claims import WITHHELD
from tl_nla.storyworld.tiny import WEIGHTS

CONFIG = RebuildConfig(documents=40, positions=2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return WarmPairs(tmp_path_factory.mktemp("pairs"), CONFIG)


def test_the_shipped_pair_is_not_trained_again(pairs):
    assert pairs.path(0, 2000) == WEIGHTS
    pair = pairs.load(0, 2000)
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in pair.parameters())
    assert not list(pairs.folder.iterdir())


def test_a_pair_is_trained_once_and_kept(pairs):
    first = pairs.load(1, 2)
    kept = {path: path.stat().st_mtime_ns for path in pairs.folder.rglob("*")}
    assert kept
    again = pairs.load(1, 2)
    assert {path: path.stat().st_mtime_ns for path in pairs.folder.rglob("*")} == kept, "trained again"
    texts = ["This is about Tom.", 'Next: surely " the".']
    torch.testing.assert_close(first.reconstruct(texts), again.reconstruct(texts))
    torch.testing.assert_close(again.mean, pairs.data(1).mean)


def test_precision_of_products_is_put_back():
    before = torch.get_float32_matmul_precision()
    with matmul_precision("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(InputError, match="none of highest"), matmul_precision("low"):
        pass


def test_the_reader_learns_to_read_withheld_words_and_the_pair_stays(pairs):
    pair, data = pairs.load(0, 2000), pairs.data(0)
    train = Said.by(pair, first_rows(data.train_states, 64))
    texts = train.withheld(pair, 0.9)
    assert any(word in text for text in texts for word in WITHHELD)
    before = {name: value.clone() for name, value in pair.reconstructor.state_dict().items()}
    config = WithholdingConfig(steps=6, learning_rate=1e-3)
    rows = dataclasses.replace(data.train_states, explanations=data.train_states.explanations)
    reader = trained_reader(pair, data, first_rows(rows, 64), texts, config, 0)
    assert all(torch.equal(value, before[name]) for name, value in pair.reconstructor.state_dict().items())
    errors = [(own.reconstruct(texts) - train.states.acts).square().mean() for own in (pair, reader)]
    assert errors[1] < errors[0]


def test_settings_are_checked():
    with pytest.raises(InputError, match="threshold 2"):
        WithholdingConfig(threshold=2.0)
