"""What notebooks show is safe and small, whatever the texts."""

import re

import pytest
import torch

import tl_nla
from tests.reports.test_report_text import NASTY, make_report
from tl_nla.adapters.verbalizer import Explanation
from tl_nla.notebook import Rows, table_html
from tl_nla.oracle.layers import LayerWords


def tags(page):
    return set(re.findall(r"<\s*/?\s*(\w+)", page))


@pytest.mark.parametrize("text", NASTY)
def test_no_text_becomes_markup(text):
    words = LayerWords(tl_nla.Site("attn", 0), [[0]], [[text]], torch.zeros(1, 2))
    rows = Rows([Explanation("blocks.1", 0, 3, text, text, True, 0.5, 0.25)])
    for shown in (make_report((text,)), words, rows, rows[0], rows + rows):
        page = shown._repr_html_() if hasattr(shown, "_repr_html_") else Rows(shown)._repr_html_()
        assert tags(page) <= {"div", "p", "small", "table", "thead", "tbody", "tr", "th", "td"}
        assert not re.search(r"\son\w+=|javascript:|src=|href=", re.sub(r">[^<]*<", "><", page))
        page.encode("utf-8")
        assert len(page) < 60_000


def test_the_strongest_parts_of_a_report_are_told():
    report = make_report()
    page = report._repr_html_()
    strongest = max(report.at(3, ("head", "mlp")), key=lambda cell: max(abs(cell.direct), cell.skip_kl))
    assert page.index(strongest.name) == min(page.index(name) for name in re.findall(r"L\d (?:head \d|MLP)", page))
    assert "to_html(path)" in page


def test_rows_are_a_list_and_a_table():
    rows = Rows([Explanation("blocks.1", 0, place, None, f"word {place}", True, None, 0.25) for place in range(40)])
    assert rows == list(rows)
    page = rows._repr_html_()
    assert "word 29" in page
    assert "word 30" not in page
    assert "10 more rows" in page
    assert "fve" not in page, "a column without any value is left out"
    assert Rows()._repr_html_() == "<div><p>no rows</p></div>"


def test_a_reading_and_a_check_are_shown(llama):
    reading = tl_nla.read(llama, torch.tensor([[1, 2, 3]]), ["blocks.0", "blocks.1.hook_resid_post"])
    page = reading._repr_html_()
    assert "blocks.0" in page
    assert "Reading of 3 positions in 1 texts" in page
    assert "cached generation" in tl_nla.check(llama, 4)._repr_html_()


def test_a_number_is_short_and_a_flag_is_a_word():
    assert ">0.333<" in table_html(("a", "b"), [(1 / 3, True)])
    assert ">True<" in table_html(("a", "b"), [(1 / 3, True)])
