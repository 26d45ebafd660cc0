import pytest

from tl_nla.evaluation.faithfulness_seeds import join_rows, load_rows, store_rows
from tl_nla.evaluation.results import Row


def rows(value):
    return [
        Row("explanation", "fve", value, round(value - 0.02, 4), round(value + 0.02, 4), 100),
        Row("explanation", "judge_agreement/quotes", value, None, None, 10),
        Row("gold", "fve", value, value, value, 100),
    ]


def test_rows_are_stored_and_joined(tmp_path):
    store_rows(rows(0.5), 1, tmp_path)
    store_rows(rows(0.7)[:2], 2, tmp_path)
    stored = load_rows(tmp_path)
    assert stored == {1: rows(0.5), 2: rows(0.7)[:2]}
    fve, agreement, gold = join_rows(rows(0.6), stored)
    assert (fve.value, fve.n) == (pytest.approx(0.6), 300)
    assert fve.value - fve.ci_low == pytest.approx((0.02**2 + 1.96**2 * 0.01 / 3) ** 0.5)
    assert (agreement.value, agreement.ci_low, agreement.n) == (pytest.approx(0.6), None, 30)
    assert gold == rows(0.6)[2]  # seed 2 lacks it


def test_without_stored_seeds_the_rows_are_the_fresh_ones(tmp_path):
    assert join_rows(rows(0.6), load_rows(tmp_path)) == rows(0.6)
