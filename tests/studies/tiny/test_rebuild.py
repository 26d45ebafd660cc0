"""The parts of the rebuild: exact step counts, half-precision weights, rows of several seeds in one file."""

import pytest
import torch
from safetensors.torch import load_file

from docs.studies.nla.score import NLARows, load_rows
from docs.studies.tiny.rebuild import (
    RebuildConfig,
    load_rebuilt,
    rebuild_target,
    run_steps,
    store_rows,
    train_context_reader,
    warm_start_nla,
)
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.training.warm_start import ReconstructorWarmStart
from tests.lightning_modules.grouping import made
from tl_nla.model.loading import load_causal_lm
from tl_nla.nla.fresh import fresh_nla
from tl_nla.storyworld.documents import world_documents

QUIET = {"limit_val_batches": 0, "enable_progress_bar": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rebuilt")
    rebuild_target(folder / "target", RebuildConfig(target_steps=1), enable_progress_bar=False)
    return folder


@pytest.fixture(scope="module")
def data(folder):
    target = load_rebuilt(folder / "target")
    module = made(
        ActivationDataModule, target.model, target.tokenizer, "blocks.2.hook_resid_post", source=world_documents(12, 0),
        documents=12, positions_per_document=4, batch_size=4, heldout=0.3,
    )  # fmt: skip
    module.setup()
    return module


def test_the_target_is_stored_in_half_precision_and_read_in_full(folder):
    stored = load_file(folder / "target" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    state = load_causal_lm(folder / "target", torch.float32).state_dict()
    for name, value in stored.items():
        assert torch.equal(state[name], value.float())


def test_both_parts_are_trained_and_repeat_themselves(folder, data):
    config = RebuildConfig(reconstructor_steps=2, verbalizer_steps=2)
    nla, again = (warm_start_nla(folder / "target", data, config, 0, **QUIET) for _ in range(2))
    fresh = fresh_nla(folder / "target", 2, "affine")
    for name in ("verbalizer", "reconstructor"):
        state, twin, before = (getattr(pair, name).state_dict() for pair in (nla, again, fresh))
        assert all(torch.equal(value, twin[key]) for key, value in state.items())
        assert not all(torch.equal(value, before[key]) for key, value in state.items())
    assert not nla.verbalizer.training


def test_the_context_reader_reads_contexts(folder, data, monkeypatch):
    read = []
    forward = ReconstructorWarmStart.forward
    monkeypatch.setattr(
        ReconstructorWarmStart, "forward", lambda self, texts: read.extend(texts) or forward(self, texts)
    )
    train_context_reader(folder / "target", data, RebuildConfig(reconstructor_steps=2), 0, **QUIET)
    assert read
    assert set(read) <= set(data.train_states.contexts)


def test_a_run_has_exactly_its_steps(folder, data):
    rates = []

    class Counted(ReconstructorWarmStart):
        def on_train_batch_end(self, *args):
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    module = Counted(nla=fresh_nla(folder / "target", 2, "affine"), learning_rate=1e-3)
    run_steps(module, data, 7, 0, **QUIET)
    assert len(rates) == 7
    assert max(rates) > 0.7e-3 > 0.1e-3 > rates[-1], "the schedule runs over exactly these steps"


def rows(seed, value):
    document = torch.tensor([0, 0, 1])
    return NLARows(seed, document, torch.ones(3), errors={"explanation": torch.full((3,), value)})


def test_rows_of_seeds_share_a_file_and_a_seed_replaces_itself(tmp_path):
    path = tmp_path / "nla_rows.safetensors"
    for seed, value in ((1, 0.5), (0, 0.25), (1, 0.75)):
        store_rows(path, rows(seed, value))
    found = load_rows(path)
    assert [one.seed for one in found] == [0, 1]
    assert [float(one.errors["explanation"][0]) for one in found] == [0.25, 0.75]
