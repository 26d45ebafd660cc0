"""Forms of answers, and words that are said from the last one backwards."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.faithfulness.test_abstention import TOKENIZER
from tl_nla.errors import InputError
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.generation import Responses
from tl_nla.nla.sure_words import leave_out, sure_tokens
from tl_nla.nla.verbalizer import Generation

READ, SAID = "Next: home, bed. Recent: she went back to her old", "Next: home, bed. Recent: old her to back went she"
BACKWARDS = AnswerRule("all", backwards="Recent: ")
_WORDS = st.lists(st.text("abc:.,|", min_size=1, max_size=4), max_size=6).map(" ".join)


def test_the_last_word_is_said_first_and_read_last():
    assert BACKWARDS.wrap(READ) == SAID
    assert BACKWARDS.extract(f" {SAID}\n") == READ
    assert BACKWARDS.spoken(READ) == [0, 1, 2, 3, 9, 8, 7, 6, 5, 4]
    assert AnswerRule("all").extract(SAID) == SAID


@pytest.mark.parametrize("form", ["tags", "opened", "all"])
@given(first=_WORDS, words=_WORDS)
def test_every_explanation_comes_back(form, first, words):
    rule = AnswerRule(form, backwards="Recent: ")
    text = f"{first} Recent: {words}".strip()
    assert rule.extract(rule.wrap(text)) == text
    assert [rule.said(text).split()[place] for place in rule.spoken(text)] == text.split()


def test_without_the_heading_nothing_is_moved():
    for text in ("", "unclear", "Next: home."):
        assert BACKWARDS.said(text) == text
        assert BACKWARDS.spoken(text) == list(range(len(text.split())))


@pytest.mark.parametrize("heading", ["", " ", "Recent:"])
def test_what_is_no_heading_is_refused(heading):
    with pytest.raises(InputError, match="give a heading and its space"):
        AnswerRule("all", backwards=heading)


def spoken(pieces, rule):
    """A generation of one row whose tokens have these probabilities."""
    ids = [TOKENIZER.encode(piece, add_special_tokens=False) for piece, _ in pieces]
    logprobs = [torch.full((len(own),), probability).log() for own, (_, probability) in zip(ids, pieces, strict=True)]
    row = torch.tensor([one for own in ids for one in own])[None]
    every = torch.ones_like(row, dtype=torch.bool)
    text = rule.extract(TOKENIZER.decode(row[0]))
    responses = Responses(row, every, torch.cat(logprobs)[None], every[:, 0])
    return Generation([text], torch.tensor([True]), responses, rule)


def test_probabilities_go_with_their_words():
    rule = AnswerRule("all", backwards="words: ")
    case = spoken([("Recent words:", 0.9), (" park", 0.8), (" the", 0.2), (" at", 0.7), (" Tom", 0.1)], rule)
    assert case.texts == ["Recent words: Tom at the park"]
    tokens = sure_tokens(case, TOKENIZER)[0]
    assert leave_out(case.texts[0], tokens, 0.5) == "Recent words: … at … park"
    assert leave_out(case.texts[0], tokens, 0.75) == "Recent words: … park"
    park = [token for token in tokens if case.texts[0][token.start : token.end] == "park"]
    assert [round(token.probability, 1) for token in park] == [0.8]


def test_a_response_that_could_not_be_read_keeps_its_order():
    rule = AnswerRule("all", backwards="words: ")
    case = spoken([("Recent words:", 0.9), (" park", 0.2), (" Tom", 0.8)], rule)
    raw = Generation(["Recent words: park Tom"], torch.tensor([False]), case.responses, rule)
    assert leave_out(raw.texts[0], sure_tokens(raw, TOKENIZER)[0], 0.5) == "Recent words: … Tom"
