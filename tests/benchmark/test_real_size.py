import pytest

from tests import zoo
from tl_nla.benchmark.bench import Case
from tl_nla.benchmark.real_size import compared, reading_cases, report_cases, shaped
from tl_nla.errors import InputError


def test_every_case_compares_its_results_and_tells_both_times(llama, monkeypatch):
    monkeypatch.setattr("tl_nla.benchmark.real_size._PLACES", [1, 5])
    tokens = zoo.tokens(1, 9)
    rows = [compared(case, 1) for case in (*reading_cases(llama, tokens), *report_cases(llama, tokens, 1))]
    assert len({(row["case"], row["peer"]) for row in rows}) == len(rows) == 8
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ours_cpu_s"] / row["peer_cpu_s"])


def test_ways_that_differ_are_not_timed():
    case = Case("sum", "another", lambda: 1, lambda: 2, lambda one, other: one == other)
    with pytest.raises(RuntimeError, match="sum: the two ways differ"):
        compared(case, 1)


def test_an_unknown_shape_is_refused():
    with pytest.raises(InputError, match="unknown shape"):
        shaped("llama_900b")
