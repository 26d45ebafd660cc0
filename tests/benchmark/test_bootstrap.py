"""Intervals: against a slow bootstrap, against known coverage, and their refusals."""

import pytest
import torch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_value_is_the_plain_statistic():
    from tl_nla.benchmark import fve_interval, mean_interval

    x, documents = torch.rand(50), torch.arange(50) // 5
    assert mean_interval(x, documents, generator=generator()).value == pytest.approx(x.mean().item())
    y = torch.rand(50) + 1
    found = fve_interval(x, y, documents, generator=generator())
    assert found.value == pytest.approx((1 - x.sum() / y.sum()).item())
    assert found.low <= found.value <= found.high
    assert found.n == 50


def test_fast_ratio_is_the_slow_one():
    from tl_nla.benchmark import ratio_interval, statistic_interval

    top, bottom, documents = torch.rand(60), torch.rand(60) + 1, torch.randint(0, 12, (60,)) * 7 - 20
    fast = ratio_interval(top, bottom, documents, generator=generator(), resamples=20000)
    slow = statistic_interval(
        lambda rows: (top[rows].sum() / bottom[rows].sum()).item(), documents, generator=generator(1), resamples=4000
    )
    assert fast.value == pytest.approx(slow.value)
    assert fast.low == pytest.approx(slow.low, abs=0.01)
    assert fast.high == pytest.approx(slow.high, abs=0.01)


def test_seeds_are_drawn_too():
    from tl_nla.benchmark import mean_interval, statistic_interval

    values, documents = torch.rand(2, 40, generator=generator()), torch.arange(40) // 4
    values[1] += 3
    each = [lambda rows, one=one: float(one[rows].mean()) for one in values]
    slow = statistic_interval(each, documents, generator=generator(), resamples=2000)
    seeds = torch.arange(2).repeat_interleave(40)
    fast = mean_interval(values.flatten(), documents.repeat(2), seeds, generator=generator(), resamples=20000)
    assert slow.value == pytest.approx(fast.value)
    assert slow.low == pytest.approx(fast.low, abs=0.03)
    assert slow.high == pytest.approx(fast.high, abs=0.03)
    assert slow.high - slow.low > 2.5


def test_it_covers_about_as_often_as_it_says_and_rows_alone_would_not():
    from tl_nla.benchmark import mean_interval

    g, hits, naive_hits, trials = generator(3), 0, 0, 200
    documents = torch.arange(40).repeat_interleave(10)
    for _ in range(trials):  # ten nearly equal rows a document: 40 draws, not 400
        x = torch.randn(40, generator=g).repeat_interleave(10) + 0.1 * torch.randn(400, generator=g)
        found = mean_interval(x, documents, generator=g, resamples=400)
        naive = mean_interval(x, torch.arange(400), generator=g, resamples=400)
        hits += found.low <= 0 <= found.high
        naive_hits += naive.low <= 0 <= naive.high
    assert 0.88 <= hits / trials <= 0.99
    assert naive_hits / trials < 0.7


def test_seeds_widen_the_interval():
    from tl_nla.benchmark import mean_interval

    documents, seeds = torch.arange(300) % 100, torch.arange(300) // 100
    x = torch.randn(300, generator=generator()) * 0.1 + seeds  # seeds differ by far more than documents
    one = mean_interval(x, documents, generator=generator())
    three = mean_interval(x, documents, seeds, generator=generator())
    assert three.value == pytest.approx(one.value, abs=1e-6)
    assert three.high - three.low > 5 * (one.high - one.low)


def test_same_generator_same_interval_and_row_order_does_not_matter():
    from tl_nla.benchmark import mean_interval

    x, documents = torch.rand(30).double(), torch.arange(30) // 3
    order = torch.randperm(30)
    first = mean_interval(x, documents, generator=generator())
    again = mean_interval(x[order], documents[order], generator=generator())
    assert (first.low, first.high) == pytest.approx((again.low, again.high))


def test_one_document_gives_a_point():
    from tl_nla.benchmark import mean_interval

    found = mean_interval(torch.tensor([0.0, 1.0]), torch.zeros(2, dtype=torch.long), generator=generator())
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("top", "bottom", "says"),
    [([], [], "need rows"), ([1.0], [0.0], "sums to 0"), ([float("nan")], [1.0], "NaN")],
)
def test_refuses(top, bottom, says):
    from tl_nla.benchmark import ratio_interval
    from tl_nla.errors import InputError

    documents = torch.zeros(len(top), dtype=torch.long)
    with pytest.raises(InputError, match=says):
        ratio_interval(torch.tensor(top), torch.tensor(bottom), documents, generator=generator())


def test_every_document_is_drawn():
    from tl_nla.benchmark import mean_interval

    for only in range(2):  # with two documents, a quarter of the draws leave one out and a quarter the other
        x = torch.tensor([float(only == 0), float(only == 1)])
        found = mean_interval(x, torch.tensor([5, 9]), generator=generator())
        assert (found.low, found.high) == (0.0, 1.0)
