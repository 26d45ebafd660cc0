"""The pages of the studies on SmolLM2 hold what their stored rows say."""

import pytest

from docs.studies.oracle_tables import fill
from docs.studies.real_pages import STUDIES, page_of, tables_of


@pytest.mark.parametrize("study", STUDIES)
def test_tables_are_those_of_the_stored_rows(study):
    page = page_of(study).read_text(encoding="utf-8")
    found = tables_of(study)
    assert all(f"<!-- table {name} -->" in page for name in found)
    assert fill(page, found) == page


@pytest.mark.parametrize("study", STUDIES)
def test_a_page_begins_with_its_answer(study):
    _, first, *_ = page_of(study).read_text(encoding="utf-8").split("\n\n")
    assert first.startswith("**")
    assert not first.startswith(("**Note", "**Limits"))
