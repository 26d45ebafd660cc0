"""A capture ends in the same files, killed or not, by one process or two, and holds what the data module would."""

import pytest
import torch

from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.captured import CapturedDataModule
from lightning_modules.data.documents import DocumentDataModule
from tests import zoo
from tests.lightning_modules import capturing
from tests.lightning_modules.forks import in_a_clean_process
from tests.lightning_modules.grouping import made
from tl_nla.data.shards import read_index, read_shard, shard_path
from tl_nla.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices")


@pytest.fixture(scope="module")
def captured(tmp_path_factory, get_model):
    folder = tmp_path_factory.mktemp("capture")
    capturing.capture(folder, get_model("bridge", "llama"))
    return folder


@pytest.mark.slow
def test_kills_and_processes_change_nothing(tmp_path):
    found = in_a_clean_process(capturing.main, tmp_path, 3)
    assert found["done"]
    assert found["equal"] == [True, True]
    assert found["kills"] == 3
    assert found["shards"] == sorted(found["shards"])
    assert 0 < found["shards"][-1] < 12, "the last kill came between two shards"


def test_the_rows_are_those_of_the_data_module(captured, get_model):
    data = made(
        ActivationDataModule, get_model("bridge", "llama"), zoo.tokenizer(), capturing.SITE,
        source=capturing.documents(), documents=60, positions_per_document=4, heldout=0.3,
    )  # fmt: skip
    data.setup()
    module = CapturedDataModule(str(captured), batch_size=7)
    train, heldout = module.train_dataloader().dataset, module.val_dataloader().dataset
    for rows, states in ((train, data.train_states), (heldout, data.heldout_states)):
        assert len(rows) == len(states)
        acts = torch.stack([rows[row][0] for row in range(len(rows))])
        torch.testing.assert_close(acts, states.acts, atol=1e-5, rtol=1e-4)
        assert [rows[row][1] for row in range(len(rows))] == states.explanations
    torch.testing.assert_close(module.mean, data.mean, atol=1e-5, rtol=1e-4)
    contexts = CapturedDataModule(str(captured), texts="contexts").train_dataloader().dataset
    assert [contexts[row][1] for row in range(len(contexts))] == data.train_states.contexts


def test_rows_know_their_document(captured):
    index = read_index(captured)
    assert len(index["shards"]) == 12
    shard = read_shard(shard_path(captured, 3))
    assert set(shard.document.tolist()) <= set(range(15, 20))
    ids = zoo.tokenizer().encode(capturing.documents()[int(shard.document[0])].text)
    assert 1 <= int(shard.position[0]) <= len(ids)


def test_what_is_there_is_not_read_again(captured, get_model, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in captured.glob("shard-*")}
    broken = shard_path(captured, 4)
    content = broken.read_bytes()
    broken.write_bytes(content[:-8])
    capturing.capture(captured, get_model("bridge", "llama"))
    assert broken.read_bytes() == content
    assert [path for path in before if path.stat().st_mtime_ns != before[path]] == [broken]


def test_a_pass_cut_short_has_no_index(tmp_path, get_model):
    module = capturing.ActivationCapture(str(tmp_path), get_model("bridge", "llama"), zoo.tokenizer(), capturing.SITE)
    trainer = capturing.L.Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
                                  enable_model_summary=False, limit_predict_batches=2)  # fmt: skip
    trainer.predict(module, datamodule=capturing.data(), return_predictions=False)
    with pytest.raises(InputError, match=r"not finished.*2 shards"):
        CapturedDataModule(str(tmp_path)).train_dataloader()


def test_another_capture_does_not_go_into_the_same_folder(captured, get_model):
    with pytest.raises(InputError, match=r"heldout 0\.3, this one has 0\.2"):
        capturing.capture(captured, get_model("bridge", "llama"), documents=capturing.data(heldout=0.2))
    with pytest.raises(InputError, match="dtype 'float32'"):
        capturing.capture(captured, get_model("bridge", "llama"), dtype="bfloat16")


def test_bad_settings_are_refused(get_model, tmp_path):
    with pytest.raises(InputError, match="documents_per_shard is 0"):
        DocumentDataModule(documents_per_shard=0)
    with pytest.raises(InputError, match="no source"):
        DocumentDataModule("missing.txt")
    other = made(ActivationDataModule, get_model("bridge", "llama"), zoo.tokenizer(), source=capturing.documents())
    other.setup()
    with pytest.raises(InputError, match="of a DocumentDataModule"):
        capturing.capture(tmp_path, get_model("bridge", "llama"), documents=other)
