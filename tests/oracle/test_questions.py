import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.errors import InputError
from tl_nla.oracle.questions import QUESTIONS, Answer, make_answer, parse_answer

words = st.lists(st.text(min_size=1, max_size=6), max_size=4, unique=True).map(tuple)


@given(st.sampled_from(["promotes", "suppresses"]), words)
def test_word_lists_are_read_back(question, tokens):
    answer = make_answer(question, tokens)
    assert parse_answer(question, answer.text) == answer


@given(words, words)
def test_sources_are_read_back(distant, local):
    answer = make_answer("sources", distant, local=local)
    assert parse_answer("sources", answer.text) == answer


@given(st.text(min_size=1, max_size=6), st.booleans(), st.none() | st.integers(0, 3))
def test_skips_are_read_back(token, flips, size):
    answer = make_answer("skip", (token,), flips=flips, size=size)
    assert parse_answer("skip", answer.text) == answer


@given(st.sampled_from(QUESTIONS), st.text())
def test_any_text_can_be_parsed(question, text):
    assert parse_answer(question, text).text == text


def test_wordings():
    assert make_answer("sources", ("Mira",), local=("a", "at")).text == "Mira; a at"
    assert make_answer("skip", ("red",), flips=True, size=3).text == "flips to red; huge"
    assert make_answer("skip", ("red",), flips=False, size=0).text == "keeps red; faint"
    assert parse_answer("skip", "no idea") == Answer("skip", "no idea")


def test_refusals():
    with pytest.raises(InputError, match="unknown question"):
        parse_answer("promote", "x")
