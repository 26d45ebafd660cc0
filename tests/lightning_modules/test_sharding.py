"""Weights shared out over two processes (FSDP2) train as one process does, and go on from their shares."""

from unittest import mock

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh

from lightning_modules.sharding import NAME, ShardingStrategy, gathered, plain_weights, shard
from tests.lightning_modules import sharded
from tests.lightning_modules.forks import finished
from tests.lightning_modules.test_processes import logged
from tests.lightning_modules.two_processes import STEPS, build
from tl_nla.errors import InputError
from tl_nla.nla import NLA


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return finished(sharded.main, tmp_path_factory, "sharded")


def weights(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=True)["weights"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", sharded.KINDS)
def test_shares_train_as_one_process(kind, folder):
    one, two = weights(folder, f"{kind}-1"), weights(folder, f"{kind}-2")
    start = dict(build(kind).named_parameters())
    assert any(not torch.equal(start[name], value) for name, value in one.items()), "nothing was trained"
    assert one.keys() == two.keys()
    for name, value in one.items():
        # Micro-batches are cut among the rows of a process, and Adam also takes steps along gradients of pure rounding.
        torch.testing.assert_close(two[name], value, atol=5e-5 if kind == "nla_small" else 1e-5, rtol=0, msg=name)
    expected, found = (logged(folder, f"{kind}-{count}", 0) for count in (1, 2))
    assert len(expected) == len(found) >= STEPS
    for mine, theirs in zip(expected, found, strict=True):
        assert mine.pop("val/loss_shuffled", 0) == pytest.approx(theirs.pop("val/loss_shuffled", 0), rel=0.1)
        assert mine == pytest.approx(theirs, abs=1e-5, nan_ok=True)
    held = torch.load(folder / f"{kind}-2.pt", weights_only=True)["held"]
    assert len(held) == len(one)
    assert sum(own for own, _ in held) == pytest.approx(sum(size for _, size in held) / 2, rel=0.05)


@pytest.mark.slow
def test_a_run_goes_on_from_a_folder_of_shares(folder):
    whole, resumed = weights(folder, "verbalizer-2"), weights(folder, "resumed")
    assert [row["step"] for row in logged(folder, "resumed", 0)][:2] == [2, 3]
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


@pytest.mark.slow
def test_the_saved_pair_is_whole(folder):
    pair = NLA.from_pretrained(folder / "verbalizer-2-pair" / "av", folder / "verbalizer-2-pair" / "ar")
    saved, trained = dict(pair.verbalizer.named_parameters()), weights(folder, "verbalizer-2")
    for name, value in trained.items():
        torch.testing.assert_close(saved[name.removeprefix("verbalizer.")], value, atol=0, rtol=0)


def test_one_process_is_left_as_it_is():
    module = build("verbalizer")
    before = list(module.parameters())
    module.configure_model()
    with gathered(module.verbalizer), plain_weights(module):
        assert all(one is other for one, other in zip(before, module.parameters(), strict=True))
    assert module.verbalizer.by_length


def test_muon_is_refused():
    module = build("verbalizer")
    module.optimizer = "muon"
    with pytest.raises(InputError, match=f"Muon orthogonalises whole matrices, and {NAME} shares them out"):
        shard(module, mock.Mock(spec=DeviceMesh))


def test_it_has_a_name():
    from lightning.pytorch.strategies import StrategyRegistry

    assert isinstance(StrategyRegistry.get(NAME), ShardingStrategy)
