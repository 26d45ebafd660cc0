import pytest
import torch

from docs.studies.contributions import train as words_only
from docs.studies.contributions.recoveries import load_recoveries, recovery_rows
from docs.studies.contributions.train import WordsOnlyConfig, measure_recoveries, train_words_only, training_texts
from lightning_modules.training.contribution import ContributionDataModule
from tests import zoo
from tests.lightning_modules.grouping import made
from tests.oracle.tiny import make_oracle
from tl_nla.data import Document
from tl_nla.errors import InputError

CONFIG = WordsOnlyConfig(documents=12, steps=2, own_words=0.5)


@pytest.fixture(scope="module")
def data(get_model):
    texts = [" ".join(f"w{i}" for i in zoo.tokens(1, 7, seed=n)[0].tolist()) for n in range(12)]
    module = made(
        ContributionDataModule,
        get_model("bridge", "llama"),
        zoo.tokenizer(),
        source=[Document(f"d/{n}", text) for n, text in enumerate(texts)],
        positions_per_document=2,
        batch_size=4,
        heldout=0.3,
        seed=5,
    )
    module.setup()
    return module


@pytest.fixture
def small_oracle(monkeypatch):
    """Readers start from a small model instead of the embedded one."""
    monkeypatch.setattr("lightning_modules.training.diff.create_oracle", lambda name, char: make_oracle())


def test_a_share_of_the_texts_are_the_oracles_own(data):
    echo = make_oracle()
    echo.explain = lambda writes, before: [f"said {row}" for row, _ in enumerate(zip(writes, before, strict=True))]
    labels, held = training_texts(data, "gold", 0.5, None)
    mixed, same = training_texts(data, "gold", 0.5, echo)
    own = [row for row, texts in enumerate(mixed) if texts[0].startswith("said")]
    assert len(own) == round(0.5 * len(labels))
    assert all(len(mixed[row]) == len(labels[row]) for row in own)
    assert [texts for row, texts in enumerate(mixed) if row not in own] == [
        texts for row, texts in enumerate(labels) if row not in own
    ]
    assert held == same == data.heldout_residuals.texts
    raw, _ = training_texts(data, "cat", 0.5, echo)
    assert not any(text.startswith("said") for texts in raw for text in texts)


def test_the_reader_is_trained_and_the_data_are_left_alone(data, small_oracle):
    before = data.train_texts
    module, _ = train_words_only(data, "cat", CONFIG)
    fresh = make_oracle().reconstructor.state_dict()
    assert any(not torch.equal(value, fresh[name]) for name, value in module.reconstructor.state_dict().items())
    assert data.train_texts is before


def test_all_arms_are_scored_and_stored(data, small_oracle, tmp_path, monkeypatch):
    monkeypatch.setattr(words_only, "ContributionDataModule", lambda **settings: data)
    explainer = make_oracle()
    words_only.rebuild_recoveries((5,), explainer, CONFIG, tmp_path)
    [part] = load_recoveries(tmp_path / words_only.STORED.name)
    assert set(part.kl) == {"gold", "explanation", "shuffled", "shuffled_writes", "constant", "cat"}
    assert all(len(kl[0]) == len(data.heldout_residuals) for kl in part.kl.values())
    whole = {row.arm: row.value for row in recovery_rows([part]) if row.metric == "kl_recovered" and row.layer is None}
    assert set(whole) == set(part.kl)
    usual = {row.arm: row.value for row in recovery_rows([part]) if row.metric == "kl_recovered/constant"}
    assert usual["constant"] == 0
    left = part.kl["gold"][-1].double().sum() / part.kl["constant"][-1].double().sum()
    assert usual["gold"] == pytest.approx(float(1 - left))
    torch.testing.assert_close(part.kl["gold"][0], part.kl["cat"][0])
    torch.testing.assert_close(part.kl["gold"][0], part.kl["constant"][0])
    assert bool((part.kl["constant"][1:] == part.kl["constant"][1]).all())
    assert bool((part.kl["constant"] > 0).all())


def test_without_an_oracle_there_is_no_such_arm(data, small_oracle):
    assert set(measure_recoveries(data, CONFIG).kl) == {"gold", "shuffled", "shuffled_writes", "constant", "cat"}
    with pytest.raises(InputError, match="own_words is 2"):
        WordsOnlyConfig(own_words=2.0)
