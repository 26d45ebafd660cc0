import lightning as L
import pytest
import torch

from lightning_modules.training.contribution import ContributionDataModule, FittingConfig, LayerContribution
from tests import zoo
from tests.lightning_modules.grouping import made
from tests.oracle.tiny import make_oracle
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.reports import ContributionReport


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
    )
    module.setup()
    return module


def make_module(get_model, **settings):
    return LayerContribution(
        oracle=make_oracle(), target=get_model("bridge", "llama"), tokenizer=zoo.tokenizer(), **settings
    )


def trainer(steps):
    return L.Trainer(accelerator="cpu", devices=1, max_steps=steps, num_sanity_val_steps=0, logger=False,
                     enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
                     limit_val_batches=1, limit_test_batches=1)  # fmt: skip


def test_fit_trains_the_sum_and_test_measures_it(data, get_model):
    module = make_module(get_model, fitting=FittingConfig(sum_weight=1.0))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    run = trainer(2)
    run.fit(module, datamodule=data)
    assert all(name.startswith("reconstructor.") for name in before)
    assert any(not torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.target()[0].parameters())
    found = run.test(module, datamodule=data, verbose=False)[0]
    assert set(found) == {"test/kl", "test/top1"}
    assert found["test/kl"] > 0


def test_the_kl_of_the_sum_reaches_the_reader(data, get_model):
    found = []
    for weight in (0.0, 0.0, 10.0):
        module = make_module(get_model, fitting=FittingConfig(sum_weight=weight))
        trainer(1).fit(module, datamodule=data)
        found.append(module.reconstructor.head.weight.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_predict_attributes(get_model):
    module = make_module(get_model)
    [reports] = trainer(1).predict(module, dataloaders=torch.utils.data.DataLoader(["w5 w6", "w7"], batch_size=2))
    assert [report["positions"] for report in reports] == [[2], [1]]
    assert ContributionReport.from_dict(reports[0]).explained_by == "labels"


def test_bad_settings_are_refused(get_model):
    with pytest.raises(InputError, match="sum_weight is -1"):
        FittingConfig(sum_weight=-1.0)
    with pytest.raises(InputError, match="unknown kind of texts"):
        ContributionDataModule(texts="golden")
