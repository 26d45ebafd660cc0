"""What a report costs, in forward passes of its prompt. Run by ``make bench``; see ``tl-nla bench --shape``."""

import pytest
import torch

from tl_nla.benchmark.real_size import compared, reading_cases, report_cases
from tl_nla.benchmark.shapes import shaped


@pytest.fixture(scope="module")
def model():
    return shaped("smollm2", layers=4)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine are counted as work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tokens(length=256):
    return torch.randint(10, 20_000, (1, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("positions", "most"), [(1, 4), (16, 30)])
def test_a_report_takes_few_forward_passes(model, positions, most):
    rows = [compared(case, 2) for case in report_cases(model, tokens(), positions)]
    assert rows[0]["peer"] == "bare forward pass"
    assert rows[0]["ratio"] <= most, rows


def test_reading_gives_what_the_cache_gives(model):
    for case in reading_cases(model, tokens()):
        assert compared(case, 1)["ours_cpu_s"] > 0


@pytest.mark.parametrize("length", [64, 512, 2048])
def test_growth_with_the_prompt_is_that_of_a_forward_pass(model, length):
    row = compared(next(report_cases(model, tokens(length), 1)), 1)
    assert row["ratio"] <= 6, row
