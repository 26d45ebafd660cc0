import pytest
import torch

from tests import zoo
from tl_nla.benchmark import real_size
from tl_nla.benchmark.bench import Case
from tl_nla.benchmark.real_size import added_up, compared, direct_cases, reading_cases, report_cases
from tl_nla.benchmark.shapes import BenchModel, bench_model, shaped
from tl_nla.errors import InputError


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def made(request):
    longer = {"llama": "max_position_embeddings", "gpt2": "n_positions"}[request.param]
    plain = zoo.hf_model(request.param, **{longer: 128})
    return bench_model(type(plain), plain.config, request.param)


def test_every_case_compares_its_results_and_tells_both_times(made, monkeypatch):
    monkeypatch.setattr("tl_nla.benchmark.peers.has_nnsight", lambda: False)  # it is one row more where it is installed
    tokens = zoo.tokens(1, 128)
    cases = (*reading_cases(made, tokens), *report_cases(made, tokens, 1), *direct_cases(made, tokens))
    rows = [compared(case, 1) for case in cases]
    assert len({(row["case"], row["peer"]) for row in rows}) == len(rows) == 16
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ours_cpu_s"] / row["peer_cpu_s"])


def test_ways_that_differ_are_not_timed():
    case = Case("sum", "another", lambda: 1, lambda: 2, lambda one, other: one == other)
    assert compared(case, 1) == {"case": "sum", "peer": "another", "whole": "", "differ": True}


def test_pieces_are_run_once_and_added_up():
    ran = []
    cases = [Case(str(number), "another", lambda: ran.append(1), lambda: ran.append(2), lambda one, other: True, "all")
             for number in range(3)]  # fmt: skip
    rows = [compared(case, 5) for case in cases]
    assert ran == [1, 2] * 3
    (found,) = added_up(rows)
    assert (found["case"], found["pieces"]) == ("all", 3)
    assert found["ours_cpu_s"] == sum(row["ours_cpu_s"] for row in rows)
    assert "ratio" not in added_up([*rows, {**rows[0], "differ": True}])[0]


def test_peers_that_read_something_else_are_found_out(made, monkeypatch):
    monkeypatch.setattr("tl_nla.benchmark.peers.has_nnsight", lambda: False)
    other = BenchModel(made.bridge, zoo.randomise(type(made.plain)(made.plain.config), seed=5), made.name)
    for case in reading_cases(other, zoo.tokens(1, 128)):
        if case.peer == "hooks on the Hugging Face model":
            assert compared(case, 1)["differ"]


def test_a_reading_that_adds_half_a_percent_to_its_own_run_is_found_out():
    writes = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert real_size._same_run(writes, writes.float() * 1.004)
    assert not real_size._same_run(writes, writes.float() * 1.01)
    assert real_size._close(writes, writes.float() * 1.01)
    assert not real_size._close(writes, writes.float() * 1.05)


def test_an_unknown_shape_is_refused():
    with pytest.raises(InputError, match="unknown shape"):
        shaped("llama_900b")
