"""Rows come back as they were written; intervals are over documents."""

import pytest

from docs.studies.lines import correlation_of, fve_of, mean_of, read_lines, shown, table, write_lines
from tl_nla.errors import InputError


def test_rows_come_back(tmp_path):
    rows = [{"document": "é", "right": 1.0}, {"document": "b", "right": 0.0}]
    write_lines(tmp_path / "rows" / "some.jsonl", rows)
    assert read_lines(tmp_path / "rows" / "some.jsonl") == rows
    with pytest.raises(InputError, match="no stored rows"):
        read_lines(tmp_path / "none.jsonl")


def test_documents_are_drawn_not_rows():
    values, one_each = [1.0] * 50 + [0.0] * 50, list(range(100))
    two = ["a"] * 50 + ["b"] * 50
    assert (mean_of(values, two).low, mean_of(values, two).high) == (0.0, 1.0)
    assert mean_of(values, one_each).low > 0.35
    assert fve_of([1.0] * 4, [4.0] * 4, one_each[:4]).value == 0.75
    assert shown(mean_of([1.0, 1.0], ["a", "b"])) == "1.00 [1.00, 1.00]"


def test_rank_correlation():
    first = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert correlation_of(first, [x**3 for x in first], range(6)).value == pytest.approx(1.0)
    assert correlation_of(first, [1.0] * 6, range(6)).value == 0.0


def test_a_table():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n"
