"""Two processes of ``ddp`` give the losses and the weights of one process with the same global batch."""

import csv

import pytest
import torch

from lightning_modules import processes
from lightning_modules.data.resumable_loader import EpochSampler
from lightning_modules.processes import denominators, sums
from tests.lightning_modules import two_processes
from tests.lightning_modules.forks import finished


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return finished(two_processes.main, tmp_path_factory, "two")


def logged(folder, kind, count):
    with (folder / kind / str(count) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("kind", two_processes.KINDS)
def test_two_processes_are_one(kind, folder):
    one, two = (torch.load(folder / f"{kind}-{count}.pt", weights_only=True) for count in (1, 2))
    torch.manual_seed(0)
    start = two_processes.build(kind).state_dict()
    assert any(not torch.equal(start[name], value) for name, value in one["weights"].items()), "nothing was trained"
    if kind == "nla_small":  # Adam makes a step out of rounding where a gradient is nearly zero
        apart, moved = (
            torch.cat([(value - other[name]).flatten() for name, value in one["weights"].items()])
            for other in (two["weights"], start)
        )
        assert apart.norm() < 0.01 * moved.norm()
    else:
        for name, value in one["weights"].items():
            torch.testing.assert_close(two["weights"][name], value, atol=1e-5, rtol=0, msg=name)
    assert one["skipped"] == two["skipped"] == 2 * (kind == "nla_spoiled")
    expected, found = logged(folder, kind, 1), logged(folder, kind, 2)
    assert len(expected) == len(found) >= two_processes.STEPS
    for mine, theirs in zip(expected, found, strict=True):
        assert mine.keys() == theirs.keys()
        # Vectors are shuffled among the rows of a process's batch.
        assert mine.pop("val/loss_shuffled", 0) == pytest.approx(theirs.pop("val/loss_shuffled", 0), rel=0.1)
        assert mine == pytest.approx(theirs, abs=1e-5, nan_ok=True)


@pytest.mark.slow
def test_micro_batches_in_two_processes_are_one_batch_in_one(folder):
    files = ("nla_accumulated-1.pt", "nla_small-2.pt")
    one, two = (torch.load(folder / name, weights_only=True)["weights"] for name in files)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=0, msg=name)


def test_one_process_counts_as_it_is(monkeypatch):
    count = torch.tensor(7)
    assert sums(count)[0] is not None
    assert denominators(count, torch.tensor(0)) == (7, 1)
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda packed: packed.mul_(2))
    assert denominators(count, torch.tensor(0)) == (7.0, 0.5)


def test_two_processes_share_the_batches_of_one(monkeypatch):
    whole = list(EpochSampler(range(23), seed=4))
    monkeypatch.setattr("lightning_modules.data.resumable_loader.world_size", lambda: 2)
    parts = []
    for number in range(2):
        monkeypatch.setattr("lightning_modules.data.resumable_loader.rank", lambda number=number: number)
        parts.append(list(EpochSampler(range(23), seed=4, drop_last=True)))
    assert [row for pair in zip(*parts, strict=True) for row in pair] == whole[:22]
