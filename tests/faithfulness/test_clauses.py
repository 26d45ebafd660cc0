from hypothesis import given
from hypothesis import strategies as st

from tests.faithfulness.helpers import explained
from tl_nla.faithfulness.clauses import join_clauses, quoted_spans, split_clauses


@given(st.text(alphabet='ab ."!\n?', max_size=60))
def test_nothing_but_white_space_is_lost(text):
    clauses = split_clauses(text)
    assert "".join("".join(c.text for c in clauses).split()) == "".join(text.split())
    assert all(text[c.start : c.end] == c.text for c in clauses)


def test_marks_inside_quotes_end_nothing():
    clauses = split_clauses('Recent words: " red. Tom! was". Next: surely ".". This is about Tom.')
    assert [c.text for c in clauses] == ['Recent words: " red. Tom! was".', 'Next: surely ".".', "This is about Tom."]
    assert [c.kind for c in clauses] == ["recent", "next", "who"]


def test_lines_end_clauses_and_unpaired_quotes():
    assert [c.text for c in split_clauses('a "b\nc. d.e f')] == ['a "b', "c.", "d.e f"]


def test_every_clause_of_an_explanation_is_one_claim():
    for text in explained()[0]:
        clauses = split_clauses(text)
        assert "other" not in [clause.kind for clause in clauses]
        assert join_clauses(clauses) == text


def test_quoted_spans_are_paired_within_lines():
    text = 'a "b" "c\nd "e"'
    assert [text[i:j] for i, j in quoted_spans(text)] == ["b", "e"]
