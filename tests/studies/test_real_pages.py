"""Pages of studies begin with their answer and tell limits; those on SmolLM2 hold what their stored rows say."""

import pytest

from docs.studies.oracle_tables import fill
from docs.studies.real_pages import STUDIES, page_of, tables_of
from tests.english import sentences

PAGES = sorted(page.parent.name for page in page_of(STUDIES[0]).parents[1].glob("*/README.md"))


@pytest.mark.parametrize("study", STUDIES)
def test_tables_are_those_of_the_stored_rows(study):
    page = page_of(study).read_text(encoding="utf-8")
    found = tables_of(study)
    assert all(f"<!-- table {name} -->" in page for name in found)
    assert fill(page, found) == page


@pytest.mark.parametrize("study", PAGES)
def test_a_page_begins_with_its_answer_and_tells_its_limits(study):
    page = page_of(study).read_text(encoding="utf-8")
    _, first, *_ = page.split("\n\n")
    assert first.startswith("**")
    assert not first.startswith(("**Note", "**Limits"))
    assert len(sentences(first)) <= 2
    assert "\n## Limits\n" in page
